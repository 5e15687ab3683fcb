// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Config is what New needs.
type Config struct {
	// ConfDir holds CNI configurations; the first valid one by file name is used.
	ConfDir string
	// BinDirs are searched for plugins, in order.
	BinDirs []string
	Paths   paths.Node
	// AddTimeout bounds one ADD or CHECK, all plugins of the configuration together; 0 is
	// one minute, since some plugins wait for their own daemon.
	AddTimeout time.Duration
	// DelTimeout bounds one DEL; 0 is 20 seconds, which leaves an undo time for the rest.
	DelTimeout time.Duration
}

// Network attaches sandboxes by CNI. It keeps no state but that on disk and in the kernel.
// It is safe for concurrent use; calls for one sandbox are the caller's to serialise.
type Network struct {
	conf        Config
	cni         *libcni.CNIConfig
	attachments attachments
	status      *statusProbe
}

// New prepares the folder of network namespaces: mounts in it are seen in all mount
// namespaces that share with this one, and outlive the process. It must be called in the
// host's network namespace.
func New(conf Config) (*Network, error) {
	n, err := NewProbe(conf)
	if err != nil {
		return nil, err
	}
	if err := shareFolder(conf.Paths.NetNS()); err != nil {
		return nil, fmt.Errorf("network: prepare %s: %w", conf.Paths.NetNS(), err)
	}
	return n, nil
}

// NewProbe is New for whoever only asks Ready: it changes nothing on the host.
func NewProbe(conf Config) (*Network, error) {
	if conf.ConfDir == "" || len(conf.BinDirs) == 0 {
		return nil, fmt.Errorf("network: ConfDir and BinDirs are needed: %w", errdefs.ErrInvalidArgument)
	}
	if conf.AddTimeout == 0 {
		conf.AddTimeout = time.Minute
	}
	if conf.DelTimeout == 0 {
		conf.DelTimeout = 20 * time.Second
	}
	cni := libcni.NewCNIConfigWithCacheDir(conf.BinDirs, conf.Paths.CNICache(), &pluginExec{})
	return &Network{
		conf:        conf,
		cni:         cni,
		attachments: attachments{dir: conf.Paths.CNIAttachments()},
		status:      &statusProbe{ask: cni.GetStatusNetworkList},
	}, nil
}

// Close ends what runs in the background. Sandboxes keep their networks.
func (n *Network) Close() { n.status.close() }

// The name of a sandbox's first NIC, in the netns and to CNI. Kubernetes says it is eth0.
const primaryNIC = vm.PrimaryNIC

// tapPrefix begins the names of all taps.
const tapPrefix = "vml"

// TapName is the name of a tap, the same on every call. It is unique on the host, as far as
// 40 random bits are, and short enough for an interface (15 bytes) with up to 100 NICs.
func TapName(sandboxID string, nic int) string {
	return fmt.Sprintf(tapPrefix+"%s%d", sandboxID[:10], nic)
}

// checkID refuses what is not a sandbox ID, since IDs become file names.
func checkID(id string) error {
	if len(id) == 32 && strings.Trim(id, "0123456789abcdef") == "" {
		return nil
	}
	return fmt.Errorf("%q is not a sandbox ID: %w", id, errdefs.ErrInvalidArgument)
}

// checkRequest refuses a request that cannot be told to plugins: CNI_ARGS is a list of
// KEY=VALUE with semicolons between, and has no way to quote them.
func checkRequest(req vm.NetworkRequest) error {
	if err := checkID(req.SandboxID); err != nil {
		return err
	}
	for field, value := range map[string]string{"name": req.Name, "namespace": req.Namespace, "UID": req.UID} {
		if strings.ContainsAny(value, ";=") {
			return fmt.Errorf("pod %s %q holds a character that CNI_ARGS cannot carry: %w", field, value, errdefs.ErrInvalidArgument)
		}
	}
	taken := []string{argIgnore, argNamespace, argName, argSandbox, argUID, argMAC, argIP}
	for key, value := range req.Args {
		if key == "" || strings.ContainsAny(key, ";=\n") || slices.Contains(taken, key) {
			return fmt.Errorf("CNI argument %q cannot be a key: %w", key, errdefs.ErrInvalidArgument)
		}
		if strings.ContainsAny(value, ";=\n") {
			return fmt.Errorf("CNI argument %s: %q holds a character that CNI_ARGS cannot carry: %w", key, value, errdefs.ErrInvalidArgument)
		}
	}
	return checkAsk(vm.NICSpec{MAC: req.MAC, IPs: req.IPs})
}

// withTimeout bounds plugins; the error then tells whose deadline it was.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %v: %w", d, context.DeadlineExceeded))
}

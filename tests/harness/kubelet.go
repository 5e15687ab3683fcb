// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// Kubelet is a kubelet without an API server, which runs static pods on a Node. The binary's tests
// run by MainWithKubelet.
type Kubelet struct {
	Node *Node
	// Dir has what is kubelet's own: its root, its manifests, its log.
	Dir string

	t       *testing.T
	cfg     kubeletConfig
	process *exec.Cmd
	exited  chan struct{}
	client  *http.Client
}

// KubeletOption changes a kubelet before it is started.
type KubeletOption func(*kubeletConfig)

type kubeletConfig struct {
	program string
	extra   string
	flags   []string
	env     []string
}

// WithKubelet runs another build than "kubelet" of bin/.
func WithKubelet(program string) KubeletOption {
	return func(c *kubeletConfig) { c.program = program }
}

// WithKubeletConfig adds lines of YAML to KubeletConfiguration. A key takes the place of the harness's.
func WithKubeletConfig(yaml string) KubeletOption {
	return func(c *kubeletConfig) { c.extra += yaml + "\n" }
}

// WithKubeletFlags adds flags.
func WithKubeletFlags(flags ...string) KubeletOption {
	return func(c *kubeletConfig) { c.flags = append(c.flags, flags...) }
}

// WithKubeletEnv adds environment variables.
func WithKubeletEnv(vars ...string) KubeletOption {
	return func(c *kubeletConfig) { c.env = append(c.env, vars...) }
}

const (
	// kubeletNode is the name of the node; pods have it at the end of theirs.
	kubeletNode = "node1"
	// kubeletAddress is on lo of the tests' network namespace: kubelet takes no address of 127/8 for a node's.
	kubeletAddress = "10.199.0.1"
	kubeletPort    = 10350
	kubeletRO      = 10355
	kubeletHealth  = 10348
)

// StartKubelet starts a kubelet on a node that serves. The test's end removes its pods, and what it made.
func StartKubelet(t *testing.T, node *Node, opts ...KubeletOption) *Kubelet {
	t.Helper()
	k := &Kubelet{Node: node, t: t, Dir: filepath.Join(node.LibDir, "kubelet"), cfg: kubeletConfig{program: "kubelet"}}
	for _, o := range opts {
		o(&k.cfg)
	}
	k.client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   ownCertificate(),
	}}
	for _, dir := range []string{k.manifests(), k.root()} {
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // QEMU's user passes through
			t.Fatal(err)
		}
	}
	k.addAddress()
	MakeCgroups(t, k.cgroupRoot())
	k.writeConfig()
	t.Cleanup(k.end)
	k.Start()
	return k
}

func (k *Kubelet) manifests() string { return filepath.Join(k.Dir, "manifests") }
func (k *Kubelet) root() string      { return filepath.Join(k.Dir, "root") }

// LogDir is where kubelet has vmlet write the pods' logs.
func (k *Kubelet) LogDir() string { return filepath.Join(k.Dir, "podlogs") }

// LogFile is kubelet's own log.
func (k *Kubelet) LogFile() string { return filepath.Join(k.Dir, "kubelet.log") }

// cgroupRoot is what kubelet's groups are below.
func (k *Kubelet) cgroupRoot() string {
	return fmt.Sprintf("/vmlet-test-%d-%s", os.Getpid(), k.Node.name)
}

func (k *Kubelet) addAddress() {
	k.t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		k.t.Fatal(err)
	}
	address, err := netlink.ParseAddr(kubeletAddress + "/32")
	if err != nil {
		k.t.Fatal(err)
	}
	if err := netlink.AddrReplace(lo, address); err != nil {
		k.t.Fatal(err)
	}
}

func (k *Kubelet) writeConfig() {
	k.t.Helper()
	k.Node.write(k.configFile(), withDefaults(k.cfg.extra, strings.Split(fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%[1]s
imageServiceEndpoint: unix://%[1]s
staticPodPath: %[2]s
podLogsDir: %[3]s
volumePluginDir: %[4]s/volumeplugins
address: 127.0.0.1
port: %[5]d
readOnlyPort: %[6]d
healthzBindAddress: 127.0.0.1
healthzPort: %[7]d
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failCgroupV1: false
cgroupsPerQOS: true
cgroupRoot: %[8]s
enforceNodeAllocatable: [pods]
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: /etc/resolv.conf
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%"}
syncFrequency: 5s
fileCheckFrequency: 1s
serializeImagePulls: false`, k.Node.Socket(), k.manifests(), k.LogDir(), k.Dir, kubeletPort, kubeletRO, kubeletHealth, k.cgroupRoot()), "\n")...))
}

func (k *Kubelet) configFile() string { return filepath.Join(k.Dir, "config.yaml") }

// Start starts kubelet and waits until it is healthy.
func (k *Kubelet) Start() {
	k.t.Helper()
	log, err := os.OpenFile(k.LogFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // kubelet has its own descriptor
	flags := append([]string{
		"--config=" + k.configFile(), "--root-dir=" + k.root(), "--cert-dir=" + filepath.Join(k.Dir, "pki"),
		"--hostname-override=" + kubeletNode, "--node-ip=" + kubeletAddress, "--v=3",
	}, k.cfg.flags...)
	cmd := exec.Command(Bin(k.cfg.program), flags...) //nolint:noctx // lives until it is told to end
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), k.cfg.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		k.t.Fatalf("%v (make kubelet builds it)", err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }() //nolint:errcheck // who waits looks at the channel
	k.process, k.exited = cmd, exited
	k.Node.Eventually(time.Minute, func() error {
		select {
		case <-exited:
			k.t.Fatalf("kubelet has exited:\n%s", k.LogTail(20))
		default:
		}
		_, err := k.get(fmt.Sprintf("http://127.0.0.1:%d/healthz", kubeletHealth))
		return err
	})
}

// Kill9 kills kubelet with SIGKILL, Stop ends it by SIGTERM; both wait for its end. Pods run on.
func (k *Kubelet) Kill9() { k.endBy(syscall.SIGKILL) }

// Stop ends kubelet by SIGTERM.
func (k *Kubelet) Stop() { k.endBy(syscall.SIGTERM) }

func (k *Kubelet) endBy(sig syscall.Signal) {
	k.t.Helper()
	if k.process == nil {
		return
	}
	_ = k.process.Process.Signal(sig) //nolint:errcheck // it may have ended already
	select {
	case <-k.exited:
	case <-time.After(time.Minute):
		k.t.Errorf("kubelet did not end within a minute of %s", sig)
		_ = k.process.Process.Kill() //nolint:errcheck // the last resort
		<-k.exited
	}
	k.process = nil
}

// Restart ends kubelet and starts it again, otherwise configured: the options, if any, take the place of the
// former ones.
func (k *Kubelet) Restart(opts ...KubeletOption) {
	k.t.Helper()
	k.Stop()
	if len(opts) > 0 {
		k.cfg = kubeletConfig{program: "kubelet"}
	}
	for _, o := range opts {
		o(&k.cfg)
	}
	k.writeConfig()
	k.Start()
}

// LogTail is the end of kubelet's log.
func (k *Kubelet) LogTail(lines int) string {
	b, err := os.ReadFile(k.LogFile())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// end removes all static pods as an administrator would, and what kubelet leaves of itself.
func (k *Kubelet) end() {
	if k.t.Failed() {
		k.t.Logf("the end of kubelet's log:\n%s", k.LogTail(40))
	}
	if k.process != nil {
		k.removeAll()
	}
	k.Stop()
	if err := unmountBelow(k.Dir); err != nil {
		k.t.Errorf("kubelet's volumes: %v", err)
	}
	if err := os.RemoveAll(k.Dir); err != nil {
		k.t.Error(err)
	}
	if err := removeCgroups(k.cgroupRoot()); err != nil {
		k.t.Errorf("kubelet's cgroups: %v", err)
	}
}

// ctx ends with the patience that anything of kubelet's deserves.
func (k *Kubelet) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(k.t.Context()), 2*time.Minute)
}

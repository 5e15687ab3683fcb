// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Node is one vmlet daemon with its own state, as a process.
type Node struct {
	runtimeapi.RuntimeServiceClient
	Images runtimeapi.ImageServiceClient
	Disks  vmletv1.DiskServiceClient
	VMs    vmletv1.VMServiceClient

	t      *testing.T
	name   string
	number int
	// RunDir and LibDir are the node's folders; Leases is host-local's.
	RunDir, LibDir, Leases string
	env                    []string
	program                string
	conn                   *grpc.ClientConn

	mu     sync.Mutex
	daemon *exec.Cmd
	exited chan struct{}
	log    *os.File
}

// NodeOption changes a node before it is started.
type NodeOption func(*nodeConfig)

type nodeConfig struct {
	extra   string
	env     []string
	tmpfs   string
	program string
}

// WithProgram runs another build of the daemon than "vmlet-failpoints", such as "vmlet".
func WithProgram(name string) NodeOption { return func(c *nodeConfig) { c.program = name } }

// WithSmallRoot puts the daemon's root folder on a tmpfs of this size, such as "64M".
func WithSmallRoot(size string) NodeOption { return func(c *nodeConfig) { c.tmpfs = size } }

// WithConfig adds lines of YAML to the daemon's configuration. A top-level key on a line
// of its own takes the place of the harness's.
func WithConfig(yaml string) NodeOption { return func(c *nodeConfig) { c.extra += yaml + "\n" } }

// WithEnv adds environment variables, for failpoints.
func WithEnv(vars ...string) NodeOption {
	return func(c *nodeConfig) { c.env = append(c.env, vars...) }
}

var nodeCount struct {
	sync.Mutex
	n int
}

// NewNode prepares a node without starting it. The test's end removes everything and
// proves that nothing is left.
func NewNode(t *testing.T, opts ...NodeOption) *Node {
	t.Helper()
	nodeCount.Lock()
	nodeCount.n++
	number := nodeCount.n
	nodeCount.Unlock()
	name := fmt.Sprintf("n%d", number)
	n := &Node{t: t, name: name, number: number, RunDir: filepath.Join(the.run, name), LibDir: filepath.Join(the.lib, name)}
	n.Leases = filepath.Join(n.LibDir, "leases")
	cfg := nodeConfig{program: "vmlet-failpoints"}
	for _, o := range opts {
		o(&cfg)
	}
	n.env, n.program = cfg.env, Bin(cfg.program)
	for _, dir := range []string{n.RunDir, n.LibDir, n.CNIDir(), n.LogDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // QEMU's user passes through
			t.Fatal(err)
		}
	}
	if cfg.tmpfs != "" {
		n.mountRoot(cfg.tmpfs)
	}
	n.WriteCNI(n.bridgeConf())
	n.writeConfig(cfg.extra)
	n.dial()
	t.Cleanup(n.end)
	return n
}

// mountRoot mounts a tmpfs that outlasts the daemon: cleanups run last first.
func (n *Node) mountRoot(size string) {
	n.t.Helper()
	root := n.node().Root
	if err := os.MkdirAll(root, 0o711); err != nil { //nolint:gosec // QEMU's user passes through
		n.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=0711,size="+size); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			n.t.Errorf("unmount %s: %v", root, err)
		}
	})
}

// StartNode prepares and starts a node, with the tiny image pulled.
func StartNode(t *testing.T, opts ...NodeOption) *Node {
	t.Helper()
	n := NewNode(t, opts...)
	n.Start()
	n.Pull(TinyImage())
	return n
}

// CNIDir is the folder of the node's CNI configuration, LogDir that of its pods' logs.
func (n *Node) CNIDir() string { return filepath.Join(n.RunDir, "cni") }

// LogDir is where the pods' logs are.
func (n *Node) LogDir() string { return filepath.Join(n.LibDir, "logs") }

// Socket is where the node serves.
func (n *Node) Socket() string { return filepath.Join(n.RunDir, "vmlet.sock") }

// ConfigFile is the daemon's configuration.
func (n *Node) ConfigFile() string { return filepath.Join(n.RunDir, "config.yaml") }

// DaemonLog is the daemon's log.
func (n *Node) DaemonLog() string { return filepath.Join(n.RunDir, "vmlet.log") }

// Bridge is the name of the node's CNI bridge.
func (n *Node) Bridge() string { return "vmbr-" + n.name }

// BridgeIP and BridgeIP6 are the node's own addresses on that bridge.
func (n *Node) BridgeIP() string { return fmt.Sprintf("10.77.%d.1", n.number%250) }

// BridgeIP6 is the IPv6 one.
func (n *Node) BridgeIP6() string { return fmt.Sprintf("fd77:%x::1", n.number) }

func (n *Node) bridgeConf() string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "test-%s", "plugins": [
  {"type": "bridge", "bridge": %q, "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.77.%d.0/24"}], [{"subnet": "fd77:%x::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}`, n.name, n.Bridge(), n.Leases, n.number%250, n.number)
}

// WriteCNI replaces the CNI configuration.
func (n *Node) WriteCNI(conflist string) {
	n.t.Helper()
	n.write(filepath.Join(n.CNIDir(), "10-test.conflist"), conflist)
}

func (n *Node) writeConfig(extra string) {
	n.t.Helper()
	n.write(n.ConfigFile(), fmt.Sprintf(`listen: {socket: %s}
root: %s/node
state: %s/state
libvirt: {uri: %q, logDir: %s/log/qemu, qemuConf: %s/etc/qemu.conf}
cni: {confDir: %s, binDirs: [%s, %s], timeout: 5s}
virtualization: tcg
%s`, n.Socket(), n.LibDir, n.RunDir, the.uri, LibvirtdDir(), LibvirtdDir(), n.CNIDir(), filepath.Join(n.RunDir, "plugins"), Bin("cni"),
		withDefaults(extra, "defaults: {memory: 128MiB}", "log: {level: debug, format: json}", `metrics: {address: ""}`, "stats: {interval: 1s}")))
}

// withDefaults adds each line unless the text has its key.
func withDefaults(text string, lines ...string) string {
	for _, line := range lines {
		key, _, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(text, key+":") && !strings.Contains(text, "\n"+key+":") {
			text += line + "\n"
		}
	}
	return text
}

func (n *Node) write(path, text string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a test's
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// Dial makes a connection, which waits for a daemon that starts later.
func (n *Node) Dial(opts ...grpc.DialOption) *grpc.ClientConn {
	n.t.Helper()
	conn, err := grpc.NewClient("unix://"+n.Socket(), append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// The socket comes and goes with the daemon; who waits for it should not wait longer.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 50 * time.Millisecond}, MinConnectTimeout: time.Second,
		}),
	}, opts...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	return conn
}

// dial makes the clients.
func (n *Node) dial() {
	n.t.Helper()
	conn := n.Dial(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20)))
	n.conn = conn
	n.RuntimeServiceClient = runtimeapi.NewRuntimeServiceClient(conn)
	n.Images = runtimeapi.NewImageServiceClient(conn)
	n.Disks = vmletv1.NewDiskServiceClient(conn)
	n.VMs = vmletv1.NewVMServiceClient(conn)
}

// Conn is the connection to the node, for services beside CRI.
func (n *Node) Conn() *grpc.ClientConn { return n.conn }

// Start starts the daemon and waits until it serves.
func (n *Node) Start() {
	n.t.Helper()
	n.StartNotServing()
	n.WaitServing(60 * time.Second)
}

// StartNotServing starts the daemon and does not wait.
func (n *Node) StartNotServing(env ...string) {
	n.t.Helper()
	log, err := os.OpenFile(n.DaemonLog(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(n.program, "--config", n.ConfigFile()) //nolint:noctx // lives until it is told to end
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append(os.Environ(), n.env...), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }() //nolint:errcheck // who waits looks at the channel
	n.mu.Lock()
	n.daemon, n.exited, n.log = cmd, exited, log
	n.mu.Unlock()
}

// WaitServing waits until calls are served.
func (n *Node) WaitServing(patience time.Duration) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.conn.ResetConnectBackoff()
	for {
		_, err := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			n.t.Fatalf("vmlet does not serve: %v\n%s", err, n.LogTail(20))
		case <-n.Exited():
			n.t.Fatalf("vmlet has exited: %v\n%s", err, n.LogTail(20))
		case <-time.After(10 * time.Millisecond):
			n.conn.ResetConnectBackoff()
		}
	}
}

// Exited is closed when the daemon of this life has ended.
func (n *Node) Exited() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exited
}

// PID is the daemon's.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.daemon.Process.Pid
}

// Kill9 kills the daemon with SIGKILL and waits for its end.
func (n *Node) Kill9() { n.signalAndWait(syscall.SIGKILL) }

// Stop ends the daemon by SIGTERM and waits for its end.
func (n *Node) Stop() { n.signalAndWait(syscall.SIGTERM) }

func (n *Node) signalAndWait(sig syscall.Signal) {
	n.t.Helper()
	n.mu.Lock()
	daemon, exited := n.daemon, n.exited
	n.mu.Unlock()
	if daemon == nil {
		return
	}
	_ = daemon.Process.Signal(sig) //nolint:errcheck // it may have ended already
	select {
	case <-exited:
	case <-time.After(60 * time.Second):
		n.t.Errorf("vmlet did not end within 60 s of %s", sig)
		_ = daemon.Process.Kill() //nolint:errcheck // the last resort
		<-exited
	}
	n.mu.Lock()
	n.daemon = nil
	_ = n.log.Close() //nolint:errcheck // the daemon has its own descriptor
	n.mu.Unlock()
}

// LogTail is the end of the daemon's log.
func (n *Node) LogTail(lines int) string {
	b, err := os.ReadFile(n.DaemonLog())
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// LogSince is what the daemon has logged since a moment, calls that went well aside.
func (n *Node) LogSince(begin time.Time) string {
	b, err := os.ReadFile(n.DaemonLog())
	if err != nil {
		return err.Error()
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		var entry struct {
			TS   time.Time `json:"ts"`
			Code string    `json:"code"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil || !entry.TS.Before(begin) && entry.Code != "OK" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// Pull pulls an image.
func (n *Node) Pull(image string) string {
	n.t.Helper()
	r, err := n.Images.PullImage(n.t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.GetImageRef()
}

// end removes all pods, ends the daemon and proves that nothing is left.
func (n *Node) end() {
	n.mu.Lock()
	running := n.daemon != nil
	n.mu.Unlock()
	if !running {
		n.env = nil
		n.Start()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	pods, err := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		n.t.Errorf("list pods at the end: %v", err)
	}
	for _, p := range pods.GetItems() {
		if _, err := n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.GetId()}); err != nil {
			n.t.Errorf("remove pod %s at the end: %v", p.GetId(), err)
		}
	}
	n.Stop()
	n.checkLeaks()
	if n.t.Failed() {
		n.t.Logf("the end of vmlet's log:\n%s", n.LogTail(60))
	}
	_ = n.conn.Close() //nolint:errcheck // the test is over
	n.removeBridge()
}

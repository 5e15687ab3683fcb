// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/revert"
)

// quick is a deadline that a real plugin meets also on a busy machine.
const quick = 3 * time.Second

// onADD is a plugin that does as the script says on ADD and well on all else.
func onADD(script string) string { return `[ "$CNI_COMMAND" = ADD ] || exit 0` + "\n" + script }

func TestSetupThatFailsLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		plugin string // comes between bridge and portmap
		main   string // comes in bridge's place
		says   string
		class  error
	}{
		"a plugin fails":          {plugin: onADD(`echo '{"code":7,"msg":"bad mask"}'; exit 1`), says: "plugin fault: bad mask"},
		"a plugin is not ready":   {plugin: onADD(`echo '{"code":11,"msg":"no leader"}'; exit 1`), says: "no leader", class: errdefs.ErrUnavailable},
		"a plugin hangs":          {plugin: onADD(`sleep 600 & wait`), says: "plugin fault was killed: no answer within", class: context.DeadlineExceeded},
		"a plugin talks rubbish":  {plugin: onADD(`echo hello`), says: `plugin fault answered what is not JSON: "hello"`},
		"a plugin says nothing":   {plugin: onADD(``), says: "plugin fault answered what is not JSON: (nothing)"},
		"a result of nothing":     {plugin: onADD(`echo '{}'`), says: "no address for interface eth0"},
		"an address of garbage":   {plugin: onADD(`echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1/99"}]}'`), says: "10.1/99"},
		"an unknown version":      {plugin: onADD(`echo '{"cniVersion":"7.0.0"}'`), says: "7.0.0"},
		"an interface of nowhere": {main: onADD(`echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"interface":0,"address":"10.1.0.5/24"}]}'`), says: "no interface eth0 in the netns"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, func(conf *Config) {
				if errors.Is(c.class, context.DeadlineExceeded) {
					conf.AddTimeout = quick
				}
			})
			if c.main != "" {
				h.plugin(t, "main", c.main)
				h.configure(t, "main", "")
			} else {
				h.plugin(t, "fault", c.plugin)
				h.configure(t, "bridge", `{"type":"fault"},`)
			}
			req := request()
			_, err := h.net.Setup(t.Context(), req)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), req.SandboxID) {
				t.Errorf("error = %v, want one with %q and the ID", err, c.says)
			}
			if c.class != nil && !errors.Is(err, c.class) {
				t.Errorf("error = %v, want class %v", err, c.class)
			}
			if errors.Is(err, revert.ErrIncomplete) {
				t.Errorf("the undo failed: %v", err)
			}
			if held := h.held(t); len(held) > 0 {
				t.Errorf("left behind: %v", held)
			}
		})
	}
}

func TestSetupThatIsGivenUpLeavesNothing(t *testing.T) {
	h := newHost(t)
	started := filepath.Join(t.TempDir(), "started")
	h.plugin(t, "fault", onADD(`touch `+started+`; sleep 600 & wait`))
	h.configure(t, "bridge", `{"type":"fault"},`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "the plugin starts", func() string {
			if _, err := os.Stat(started); err != nil {
				return "not started"
			}
			return ""
		})
		cancel()
	}()
	if _, err := h.net.Setup(ctx, request()); !errdefs.IsCanceled(err) || errors.Is(err, revert.ErrIncomplete) {
		t.Errorf("error = %v, want Canceled", err)
	}
	if held := h.held(t); len(held) > 0 {
		t.Errorf("left behind: %v", held)
	}
}

func TestMissingPluginIsSaidAndBlocksNothingButItsDEL(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	away := filepath.Join(h.bin, "bridge")
	if err := os.Remove(away); err != nil {
		t.Fatal(err)
	}
	for call, err := range map[string]error{
		"ready":    h.net.Ready(t.Context()),
		"teardown": h.net.Teardown(t.Context(), n.Request),
	} {
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), `plugin "bridge" not found in `+h.bin) {
			t.Errorf("%s: error = %v", call, err)
		}
	}
	if _, err := h.net.Setup(t.Context(), request()); !errdefs.IsUnavailable(err) {
		t.Errorf("setup: error = %v", err)
	}
	h.mustTeardown(t, request())
	if err := os.Symlink(filepath.Join(h.real, "bridge"), away); err != nil {
		t.Fatal(err)
	}
	h.mustTeardown(t, n.Request)
}

func TestCheckTellsWhatIsBroken(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	inside(t, n, func() error {
		dev, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.AddrDel(dev, &netlink.Addr{IPNet: ipNet(n.NICs[0].IPs[0].Prefix)})
	})
	if err := h.net.Check(t.Context(), n); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("error = %v, want FailedPrecondition", err)
	}
	h.mustTeardown(t, n.Request)
}

func TestWireWithoutItsTap(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	if err := h.net.Wire(t.Context(), n); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), n.NICs[0].Tap) {
		t.Errorf("no tap: error = %v, want FailedPrecondition", err)
	}
	foreign := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.NICs[0].Tap}}
	if err := netlink.LinkAdd(foreign); err != nil {
		t.Fatal(err)
	}
	if err := h.net.Wire(t.Context(), n); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("not a tap: error = %v, want FailedPrecondition", err)
	}
	if err := netlink.LinkDel(foreign); err != nil {
		t.Errorf("the foreign interface was moved: %v", err)
	}
	h.mustTeardown(t, n.Request)
}

func TestReadyHearsOfSTATUS(t *testing.T) {
	h := newHost(t)
	h.plugin(t, "main", `[ "$CNI_COMMAND" = STATUS ] && { echo '{"code":50,"msg":"no uplink"}'; exit 1; }; exec REAL/bridge`)
	h.configure(t, "main", "")
	if err := h.net.Ready(t.Context()); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "STATUS: plugin main: no uplink") {
		t.Errorf("error = %v", err)
	}
	h.configure(t, "bridge", "")
	if err := h.net.Ready(t.Context()); err != nil {
		t.Errorf("after the configuration changed: %v", err)
	}
}

func TestNetNSIsSeenAndGoneInOtherMountNamespaces(t *testing.T) {
	h := newHost(t)
	// A process in a mount namespace of its own, as libvirt and containers make them.
	other := exec.Command("unshare", "--mount", "--propagation", "slave", "cat")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/", other.Process.Pid)
	mounts := func() string { return readFile(t, proc+"mounts") }
	eventually(t, "the other namespace", func() string {
		mine, err := os.Readlink("/proc/self/ns/mnt")
		if err != nil {
			t.Fatal(err)
		}
		if its, err := os.Readlink(proc + "ns/mnt"); err != nil || mine == its {
			return "not there"
		}
		return ""
	})
	n := h.mustSetup(t)
	if !strings.Contains(mounts(), n.NetNS) {
		t.Errorf("%s is not mounted in the other namespace", n.NetNS)
	}
	h.mustTeardown(t, n.Request)
	if strings.Contains(mounts(), n.NetNS) {
		t.Errorf("%s stays mounted in the other namespace", n.NetNS)
	}
	closing(t, in)
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
}

func TestManyRoundsLeakNoDescriptors(t *testing.T) {
	h := newHost(t)
	round := func() {
		n, _ := h.mustStart(t)
		if _, err := h.net.Stats(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if err := h.net.Check(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		h.stopQEMU(t, n)
		h.mustTeardown(t, n.Request)
	}
	round()
	before := descriptors(t)
	for range 10 {
		round()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// A guest that has a carrier before it is wired talks to nobody: neither to the host, in whose namespace its tap still is, nor out of it.
func TestATapThatIsDownSaysNothing(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	h.startQEMU(t, n)
	tap := h.taps[n.Request.SandboxID][0]
	dev, err := netlink.LinkByName(n.NICs[0].Tap)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(dev); err != nil { // as libvirt does
		t.Fatal(err)
	}
	tap.send(t, []byte("a frame that the host hears"))
	if err := h.net.TapDown(t.Context(), n.NICs[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := tap.WriteString("a frame that nobody hears"); !errors.Is(err, unix.EIO) {
		t.Errorf("a frame to a tap that is down: error = %v, want EIO", err)
	}
	if err := h.net.Wire(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if err := h.net.TapDown(t.Context(), n.NICs[0]); err != nil { // it is not the host's any more
		t.Fatal(err)
	}
	tap.send(t, []byte("a frame to the sandbox"))
	h.mustTeardown(t, n.Request)
}

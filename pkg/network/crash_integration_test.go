// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// crashEnv makes this test program a process that works on a host and, since a plugin kills
// it with SIGKILL, never comes back: a crash as real as they are.
const crashEnv = "VMLET_TEST_CRASH"

type crashPlan struct {
	Root     string            `json:"root"`
	State    string            `json:"state"`
	ConfDir  string            `json:"confDir"`
	BinDirs  []string          `json:"binDirs"`
	Request  vm.NetworkRequest `json:"request"`
	Teardown bool              `json:"teardown"`
}

func crash(plan string) {
	var p crashPlan
	err := json.Unmarshal([]byte(plan), &p)
	if err == nil {
		err = p.run(context.Background())
	}
	fmt.Fprintln(os.Stderr, "survived:", err)
	os.Exit(1)
}

func (p crashPlan) run(ctx context.Context) error {
	n, err := New(Config{Paths: paths.Node{Root: p.Root, State: p.State}, ConfDir: p.ConfDir, BinDirs: p.BinDirs})
	if err != nil {
		return err
	}
	if p.Teardown {
		return n.Teardown(ctx, p.Request)
	}
	_, err = n.Setup(ctx, p.Request)
	return err
}

// mustCrash runs a plan in a process that must end by SIGKILL.
func (h *host) mustCrash(t *testing.T, req vm.NetworkRequest, teardown bool) {
	t.Helper()
	plan, err := json.Marshal(crashPlan{h.conf.Paths.Root, h.conf.Paths.State, h.conf.ConfDir, h.conf.BinDirs, req, teardown})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), crashEnv+"="+string(plan))
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v: %s", err, out)
	}
}

const killParent = `kill -9 $PPID; exit 1`

func TestTeardownAfterACrashFreesEverything(t *testing.T) {
	for name, c := range map[string]struct {
		main     string // in bridge's place
		fault    string // after bridge
		teardown bool   // crash in Teardown, not in Setup
		leases   int    // after the crash
	}{
		"before the first plugin":     {main: `[ "$CNI_COMMAND" = ADD ] && { ` + killParent + `; }; exec REAL/bridge`},
		"after the first plugin":      {fault: onADD(killParent), leases: 2},
		"before the last DEL":         {main: `[ "$CNI_COMMAND" = DEL ] && [ ! -e $DONE ] && { touch $DONE; ` + killParent + `; }; exec REAL/bridge`, teardown: true, leases: 2},
		"between DEL and the cleanup": {main: `[ "$CNI_COMMAND" = DEL ] && [ ! -e $DONE ] && { touch $DONE; REAL/bridge; ` + killParent + `; }; exec REAL/bridge`, teardown: true},
	} {
		for _, rebooted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rebooted %v", name, rebooted), func(t *testing.T) {
				h := newHost(t)
				main, others := "bridge", ""
				if c.main != "" {
					main = "main"
					h.plugin(t, main, "DONE="+t.TempDir()+"/done\n"+c.main)
				}
				if c.fault != "" {
					h.plugin(t, "fault", c.fault)
					others = `{"type":"fault"},`
				}
				h.configure(t, main, others)
				req := request()
				req.PortMappings = []vm.PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 18083}}
				if c.teardown {
					if _, err := h.net.Setup(t.Context(), req); err != nil {
						t.Fatal(err)
					}
				}
				h.mustCrash(t, req, c.teardown)
				if leased := h.leased(t); len(leased) != c.leases {
					t.Fatalf("after the crash there are the leases %v, the test wants %d", leased, c.leases)
				}
				h.open(t)
				if rebooted {
					h.reboot(t)
				}
				if list, err := h.net.List(t.Context()); err != nil || len(list) != 1 || list[0].Name != req.Name {
					t.Errorf("list %v, %v; want the sandbox with its name", list, err)
				}
				if _, err := h.net.Setup(t.Context(), req); !errdefs.IsAlreadyExists(err) {
					t.Errorf("setup on what is left: error = %v, want AlreadyExists", err)
				}
				for range 2 {
					h.mustTeardown(t, vm.NetworkRequest{SandboxID: req.SandboxID})
				}
				if held := h.held(t); len(held) > 0 {
					t.Errorf("left behind: %v", held)
				}
			})
		}
	}
}

func TestTeardownAfterACrashBeforeTheNetNS(t *testing.T) {
	h := newHost(t)
	for _, text := range []string{"", `{"request":{"sandb`} {
		req := request()
		if err := os.MkdirAll(h.conf.Paths.CNIAttachments(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.net.attachments.path(req.SandboxID), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := h.net.List(t.Context()); err != nil || len(list) != 1 {
			t.Errorf("list %v, %v", list, err)
		}
		h.mustTeardown(t, req)
	}
}

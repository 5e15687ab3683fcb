// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestWhatADELCannotUndoStaysForTeardown(t *testing.T) {
	h := newHost(t)
	mended := filepath.Join(t.TempDir(), "mended")
	h.plugin(t, "fault", `[ "$CNI_COMMAND" = DEL ] && [ -e `+mended+` ] && exit 0; echo '{"code":100,"msg":"down"}'; exit 1`)
	h.configure(t, "bridge", `{"type":"fault"},`)
	req := request()
	_, err := h.net.Setup(t.Context(), req)
	if !errors.Is(err, revert.ErrIncomplete) {
		t.Fatalf("error = %v, want ErrIncomplete", err)
	}
	for range 2 {
		if list, err := h.net.List(t.Context()); err != nil || len(list) != 1 || list[0].SandboxID != req.SandboxID {
			t.Fatalf("list %v, %v", list, err)
		}
		if len(h.leased(t)) != 2 {
			t.Errorf("leases %v, want both: DEL has not got as far", h.leased(t))
		}
		if err := h.net.Teardown(t.Context(), req); err == nil || !strings.Contains(err.Error(), "down") {
			t.Fatalf("error = %v, want the plugin's", err)
		}
	}
	if err := os.WriteFile(mended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.mustTeardown(t, req)
}

func TestDELThatHangsIsAnErrorAndCanBeTriedAgain(t *testing.T) {
	h := newHost(t, func(c *Config) { c.DelTimeout = quick })
	hang := filepath.Join(t.TempDir(), "hang")
	h.plugin(t, "main", `[ "$CNI_COMMAND" = DEL ] && [ -e `+hang+` ] && sleep 600; exec REAL/bridge`)
	h.configure(t, "main", "")
	n := h.mustSetup(t)
	if err := os.WriteFile(hang, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.net.Teardown(t.Context(), n.Request); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("error = %v, want DeadlineExceeded", err)
	}
	if err := h.net.Check(t.Context(), n); err != nil {
		t.Errorf("the network is not whole any more: %v", err)
	}
	if err := os.Remove(hang); err != nil {
		t.Fatal(err)
	}
	h.mustTeardown(t, n.Request)
}

func TestDELHearsWhatTheADDHeard(t *testing.T) {
	h := newHost(t)
	log := filepath.Join(t.TempDir(), "log")
	h.plugin(t, "main", `cat > `+log+`.$CNI_COMMAND; echo "$CNI_ARGS" > `+log+`.args.$CNI_COMMAND; exec REAL/bridge < `+log+`.$CNI_COMMAND`)
	h.configure(t, "main", "")
	req := request()
	req.PortMappings = []vm.PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 18081}}
	if _, err := h.net.Setup(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	// Since then the configuration has become another, and the caller remembers little.
	if err := os.WriteFile(filepath.Join(h.conf.ConfDir, "05-other.conflist"), []byte(`{"cniVersion":"1.1.0","name":"other","plugins":[{"type":"absent"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	h.open(t)
	h.mustTeardown(t, vm.NetworkRequest{SandboxID: req.SandboxID})

	var add, del map[string]any
	for command, into := range map[string]*map[string]any{"ADD": &add, "DEL": &del} {
		if err := json.Unmarshal([]byte(readFile(t, log+"."+command)), into); err != nil {
			t.Fatal(err)
		}
	}
	if del["prevResult"] == nil {
		t.Error("DEL did not get the ADD's result")
	}
	delete(del, "prevResult")
	if diff := cmp.Diff(add, del); diff != "" {
		t.Errorf("configuration (-ADD +DEL):\n%s", diff)
	}
	addArgs, delArgs := readFile(t, log+".args.ADD"), readFile(t, log+".args.DEL")
	if addArgs != delArgs || !strings.Contains(addArgs, "K8S_POD_NAME=web") {
		t.Errorf("arguments of ADD %q, of DEL %q", addArgs, delArgs)
	}
}

func TestTeardownWithoutConfigurationStillFreesTheLease(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	if err := os.RemoveAll(h.conf.ConfDir); err != nil {
		t.Fatal(err)
	}
	if err := h.net.Ready(t.Context()); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no CNI configuration in "+h.conf.ConfDir) {
		t.Errorf("ready: error = %v", err)
	}
	h.mustTeardown(t, n.Request)
}

func TestTeardownAfterARebootFreesTheLease(t *testing.T) {
	h := newHost(t)
	log := filepath.Join(t.TempDir(), "log")
	h.plugin(t, "main", `[ "$CNI_COMMAND" = DEL ] && echo "netns '$CNI_NETNS'" > `+log+`; exec REAL/bridge`)
	h.configure(t, "main", "")
	req := request()
	req.PortMappings = []vm.PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 18082}}
	if _, err := h.net.Setup(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	h.reboot(t)
	list, err := h.net.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]vm.NetworkRequest{req}, list); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	h.mustTeardown(t, list[0])
	if said := readFile(t, log); said != "netns ''\n" {
		t.Errorf("DEL was told of the %s, which is gone", said)
	}
}

func TestTeardownOfANetNSThatIsNotMounted(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	if err := unix.Unmount(n.NetNS, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := h.net.Check(t.Context(), n); !errdefs.IsNotFound(err) {
		t.Errorf("check: error = %v, want NotFound", err)
	}
	h.mustTeardown(t, n.Request)
}

func TestTeardownWithoutItsAttachment(t *testing.T) {
	for name, configured := range map[string]bool{"the present configuration is used": true, "none is left to use": false} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			n := h.mustSetup(t)
			if err := os.RemoveAll(h.conf.Paths.CNICache()); err != nil {
				t.Fatal(err)
			}
			if list, err := h.net.List(t.Context()); err != nil || len(list) != 1 || list[0].SandboxID != n.Request.SandboxID {
				t.Errorf("list %v, %v", list, err)
			}
			if !configured {
				if err := os.RemoveAll(h.conf.ConfDir); err != nil {
					t.Fatal(err)
				}
			}
			h.mustTeardown(t, n.Request)
			if leased := h.leased(t); configured != (len(leased) == 0) {
				t.Errorf("leases %v", leased)
			}
			if err := os.RemoveAll(h.leases); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

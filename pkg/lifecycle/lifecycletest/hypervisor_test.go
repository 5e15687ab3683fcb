// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeHypervisorKeepsTheContract(t *testing.T) {
	lifecycletest.RunHypervisor(t, func(*testing.T) lifecycletest.HypervisorHost {
		return lifecycletest.HypervisorHost{
			Hypervisor: lifecycletest.NewHypervisor(),
			RawDisk:    func(t *testing.T) string { t.Helper(); return filepath.Join(t.TempDir(), "disk.raw") },
		}
	})
}

func TestFakeScreensKeepTheContract(t *testing.T) {
	lifecycletest.RunScreens(t, func(*testing.T) lifecycletest.ScreensHost {
		h := lifecycletest.NewHypervisor()
		return lifecycletest.ScreensHost{HypervisorHost: lifecycletest.HypervisorHost{Hypervisor: h}, Screens: h}
	})
}

// The sequences that libvirt 9.0 and QEMU 7.2 were seen to send, which the integration
// tests of pkg/libvirt compare with libvirt anew.
func TestFakeHypervisorTellsEndsAsLibvirtDoes(t *testing.T) {
	for name, tc := range map[string]struct {
		end          func(*lifecycletest.Hypervisor) error
		events       []string
		state, inLog string
	}{
		"poweroff": {
			func(h *lifecycletest.Hypervisor) error { h.PowerOff("sb"); return nil },
			[]string{"GuestShutdown/guest", "Stopped/shutdown"}, "shutdown", "shutdown",
		},
		"power button": {
			func(h *lifecycletest.Hypervisor) error { return h.PowerButton(t.Context(), "sb") },
			[]string{"GuestShutdown/guest", "Stopped/shutdown"}, "shutdown", "shutdown",
		},
		"panic": {
			func(h *lifecycletest.Hypervisor) error { h.Panic("sb"); return nil },
			[]string{"Panicked/panicked", "Stopped/crashed"}, "crashed", "crashed",
		},
		"SIGKILL": {
			func(h *lifecycletest.Hypervisor) error { h.Kill("sb"); return nil },
			[]string{"Stopped/failed"}, "crashed", "crashed",
		},
		"SIGTERM": {
			func(h *lifecycletest.Hypervisor) error { h.Terminate("sb"); return nil },
			[]string{"HostShutdown/host", "Stopped/shutdown"}, "shutdown", "shutdown",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := lifecycletest.NewHypervisor()
			start(t, h)
			if err := tc.end(h); err != nil {
				t.Fatal(err)
			}
			if got := drain(h); !slices.Equal(got, tc.events) {
				t.Errorf("events %v, want %v", got, tc.events)
			}
			d, err := h.Domain(t.Context(), "sb")
			if err != nil || d.State != vm.DomainShutoff || d.Reason != tc.state {
				t.Errorf("state %+v, %v", d, err)
			}
			if last, err := h.LastShutdown(t.Context(), "sb"); err != nil || last.Reason != tc.inLog {
				t.Errorf("log %+v, %v", last, err)
			}
		})
	}
}

func TestFakeHypervisorFollowsItsScript(t *testing.T) {
	h := lifecycletest.NewHypervisor()
	first, second := errors.New("first"), errors.New("second")
	h.FailNext("Ready", first)
	h.FailNext("Ready", second)
	for _, want := range []error{first, second, nil} {
		if err := h.Ready(t.Context()); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	release := h.Block("Define")
	defined := make(chan error)
	go func() { defined <- h.Define(t.Context(), vm.Machine{SandboxID: "sb"}) }()
	if err := h.WaitCall(t.Context(), "Define sb"); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Machine("sb"); ok {
		t.Error("a blocked call had its effect")
	}
	release()
	if err := <-defined; err != nil {
		t.Error(err)
	}
	if got, want := h.Calls(), []string{"Ready", "Ready", "Ready", "Define sb"}; !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

func TestFakeHypervisorLosesLibvirtAndFindsIt(t *testing.T) {
	h := lifecycletest.NewHypervisor()
	start(t, h)
	h.Disconnect()
	h.Kill("sb") // nobody hears of it
	if err := h.Ready(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("got %v, want Unavailable", err)
	}
	h.Reconnect()
	if got := drain(h); !slices.Equal(got, []string{"Reconnected/"}) {
		t.Errorf("events %v, want only that it is back", got)
	}
}

func TestFakeHypervisorLeavesForeignDomainsAlone(t *testing.T) {
	h := lifecycletest.NewHypervisor()
	h.AddForeign("sb")
	for name, err := range map[string]error{
		"Define":  h.Define(t.Context(), vm.Machine{SandboxID: "sb"}),
		"Destroy": h.Destroy(t.Context(), "sb"),
	} {
		if !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s: %v, want FailedPrecondition", name, err)
		}
	}
	if all, err := h.Domains(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("Domains: %v, %v", all, err)
	}
}

// start runs the domain of sandbox sb and drops the events of that.
func start(t *testing.T, h *lifecycletest.Hypervisor) {
	t.Helper()
	for _, err := range []error{
		h.Define(t.Context(), vm.Machine{SandboxID: "sb"}), h.Start(t.Context(), "sb"), h.Resume(t.Context(), "sb"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	drain(h)
}

func drain(h *lifecycletest.Hypervisor) (events []string) {
	for {
		select {
		case ev := <-h.Events():
			events = append(events, string(ev.Kind)+"/"+ev.Detail)
		default:
			return events
		}
	}
}

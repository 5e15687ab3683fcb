// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

func testMachine() vm.Machine {
	return vm.Machine{
		SandboxID: testID, UUID: vm.UUIDFromID(testID), Name: vm.DomainName(testID), Owner: testNodeOwner,
		Accel: vm.AccelTCG, MachineType: "q35", CPU: vm.MachineCPU{Count: 1}, Memory: 64 * vm.MiB, ConsoleSpool: "/console",
	}
}

// onOneDomain are all operations on a domain that may change it or need it.
func onOneDomain(h *Hypervisor) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Define":       func(ctx context.Context) error { return h.Define(ctx, testMachine()) },
		"Start":        func(ctx context.Context) error { return h.Start(ctx, testID) },
		"Resume":       func(ctx context.Context) error { return h.Resume(ctx, testID) },
		"PID":          func(ctx context.Context) error { _, err := h.PID(ctx, testID); return err },
		"PowerButton":  func(ctx context.Context) error { return h.PowerButton(ctx, testID) },
		"Destroy":      func(ctx context.Context) error { return h.Destroy(ctx, testID) },
		"Undefine":     func(ctx context.Context) error { return h.Undefine(ctx, testID) },
		"AwaitExit":    func(ctx context.Context) error { return h.AwaitExit(ctx, testID) },
		"Domain":       func(ctx context.Context) error { _, err := h.Domain(ctx, testID); return err },
		"LastShutdown": func(ctx context.Context) error { _, err := h.LastShutdown(ctx, testID); return err },
		"Command":      func(ctx context.Context) error { _, err := h.Agent().Command(ctx, testID, []byte("{}")); return err },
	}
}

func TestForeignDomainIsNeverTouched(t *testing.T) {
	for name, define := range map[string]func(stranger) *virt.Domain{
		"our UUID, no mark":       func(s stranger) *virt.Domain { return s.define("foreign", testID, "") },
		"our UUID, another owner": func(s stranger) *virt.Domain { return s.define("foreign", testID, "another node") },
		"our name under another UUID": func(s stranger) *virt.Domain {
			return s.define(vm.DomainName(testID), strings.Repeat("f", 32), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, h := newStranger(t), newTestHypervisor(t)
			foreign := define(s)
			s.must(foreign.Create())
			before, err := foreign.GetXMLDesc(0)
			s.must(err)
			for operation, do := range onOneDomain(h) {
				err := do(t.Context())
				if !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), "not ours") {
					t.Errorf("%s: %v, want FailedPrecondition since it is not ours", operation, err)
				}
			}
			after, err := foreign.GetXMLDesc(0)
			if err != nil || after != before {
				t.Errorf("the foreign domain changed: %v", err)
			}
			if all, err := h.Domains(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("Domains lists %+v, %v", all, err)
			}
		})
	}
}

// The mark names one sandbox: a copy of our domain under another UUID is not that sandbox.
func TestCopyOfOurDomainIsNotOurs(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	dom, err := s.DomainDefineXML(strings.ReplaceAll(`<domain type='test'><name>copy</name><uuid>UUID</uuid>
		<metadata><v:sandbox xmlns:v="https://vmlet.dev/xmlns/domain/1.0" id="ffffffffffffffffffffffffffffffff" owner="unit-test"/></metadata>
		<memory>1024</memory><os><type>hvm</type></os></domain>`, "UUID", vm.UUIDFromID(testID)))
	s.must(err)
	defer free(dom)
	defer func() { s.must(dom.Undefine()) }()
	if err := h.Destroy(t.Context(), testID); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("got %v, want FailedPrecondition", err)
	}
}

func TestAbsentDomain(t *testing.T) {
	h := newTestHypervisor(t)
	operations := onOneDomain(h)
	delete(operations, "Define")
	for operation, do := range operations {
		err := do(t.Context())
		switch operation {
		case "Destroy", "Undefine", "Domain", "AwaitExit":
			if err != nil {
				t.Errorf("%s: %v, want none", operation, err)
			}
		default:
			if !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("%s: %v, want NotFound", operation, err)
			}
		}
	}
	for _, id := range []string{testID, "short", "", strings.Repeat("x", 32)} {
		if d, err := h.Domain(t.Context(), id); err != nil || d.State != vm.DomainAbsent || d.SandboxID != id {
			t.Errorf("Domain(%q) = %+v, %v; want that it is absent", id, d, err)
		}
	}
}

func TestDomainsShowsStateAndReason(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	dom := s.ours(testID)
	check := func(state vm.DomainState, reason string) {
		t.Helper()
		want := vm.Domain{SandboxID: testID, Owner: testNodeOwner, Name: vm.DomainName(testID), State: state, Reason: reason}
		if d, err := h.Domain(t.Context(), testID); err != nil || d != want {
			t.Errorf("Domain: %+v, %v; want %+v", d, err, want)
		}
		if all, err := h.Domains(t.Context()); err != nil || len(all) != 1 || all[0] != want {
			t.Errorf("Domains: %+v, %v; want %+v", all, err, want)
		}
	}
	check(vm.DomainShutoff, "unknown")
	s.must(dom.Create())
	check(vm.DomainRunning, "booted")
	s.must(dom.Suspend())
	check(vm.DomainPaused, "user")
	s.must(h.Resume(t.Context(), testID))
	check(vm.DomainRunning, "unpaused")
	s.must(h.Resume(t.Context(), testID)) // idempotent
	// No process stands behind a domain of the test driver: libvirt does it all.
	s.must(h.Destroy(t.Context(), testID))
	check(vm.DomainShutoff, "destroyed")
	s.must(h.Destroy(t.Context(), testID))
	if err := h.Resume(t.Context(), testID); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Resume of an inactive domain: %v", err)
	}
}

func TestActiveDomainIsNeitherRedefinedNorUndefined(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	s.must(s.ours(testID).Create())
	for _, operation := range []string{"Define", "Undefine"} {
		if err := onOneDomain(h)[operation](t.Context()); !errors.Is(err, errActive) {
			t.Errorf("%s: %v, want that it is active", operation, err)
		}
	}
}

func TestMachineOfAnotherIdentityIsInvalid(t *testing.T) {
	h := newTestHypervisor(t)
	for name, change := range map[string]func(*vm.Machine){
		"owner":   func(m *vm.Machine) { m.Owner = "another node" },
		"UUID":    func(m *vm.Machine) { m.UUID = vm.UUIDFromID(strings.Repeat("f", 32)) },
		"name":    func(m *vm.Machine) { m.Name = "x" },
		"ID":      func(m *vm.Machine) { m.SandboxID, m.UUID, m.Name = "x", "x", "vmlet-x" },
		"machine": func(m *vm.Machine) { m.Memory = 0 },
	} {
		m := testMachine()
		change(&m)
		if err := h.Define(t.Context(), m); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
}

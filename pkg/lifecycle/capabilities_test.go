// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// can is why a VM, or for "" the host, cannot do things, by their names; "" for what it can.
func (w *world) can(ref string) map[string]string {
	w.t.Helper()
	synctest.Wait()
	all, err := w.svc.Capabilities(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range all {
		if _, twice := out[c.Name]; twice || c.Available != (c.WhyNot == "") {
			w.t.Errorf("capability %+v", c)
		}
		out[c.Name] = c.WhyNot
	}
	return out
}

func TestCapabilitiesFollowTheHostAndTheGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		host := w.can("")
		want := func(title string, got map[string]string, reasons map[string]string) {
			t.Helper()
			for name, why := range got {
				reason := reasons[name]
				if (reason == "") != (why == "") || !strings.Contains(why, reason) {
					t.Errorf("%s: %s cannot be done for %q, want %q", title, name, why, reason)
				}
			}
			for name := range reasons {
				if _, known := got[name]; !known {
					t.Errorf("%s: no word of %s", title, name)
				}
			}
		}
		noKVM := "neither vmx nor svm"
		want("the host", host, map[string]string{"kvm": noKVM})
		for name := range host {
			if !regexp.MustCompile(`^[a-z]+([.-][a-z]+)*$`).MatchString(name) {
				t.Errorf("the name %q", name)
			}
		}
		sb, c := w.running("a")
		want("a VM with vmlet-agent", w.can(c), map[string]string{"kvm": noKVM})
		w.guest.SetForeign(sb)
		none := "no agent answers"
		ours := "no vmlet-agent answers"
		want("a VM without", w.can(c), map[string]string{
			"kvm": noKVM, "exec": none, "guest": none, "reboot.agent": none, "snapshots.quiesce": none, "exec.tty": ours, "mounts.files": ours, "mounts.shares": ours,
		})
		w.hypervisor.SetAgent(sb, true)
		want("a VM with qemu-guest-agent", w.can(c), map[string]string{
			"kvm": noKVM, "exec.tty": ours, "mounts.files": ours, "mounts.shares": ours,
		})
		if err := w.svc.Pause(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
		paused := map[string]string{"kvm": noKVM}
		for name := range host {
			if !always[name] && !slices.Contains([]string{"pause", "power", "attach", "console", "snapshots.memory", "checkpoint"}, name) {
				paused[name] = "is paused"
			}
		}
		want("a paused VM", w.can("default/a"), paused)
		if got := <-w.poweringOff(sb, vm.PowerOffRequest{Mode: vm.PowerOffForce}); got.err != nil {
			t.Fatal(got.err)
		}
		off := map[string]string{"kvm": noKVM}
		for name := range host {
			if !always[name] && name != "power" {
				off[name] = "it is powered-off"
			}
		}
		want("a VM that is powered off", w.can(sb), off)
		w.must(w.svc.PowerOn(t.Context(), sb, vm.PowerOnRequest{}))
		w.hypervisor.PowerOff(sb)
		w.exit(c)
		ended := map[string]string{"kvm": noKVM}
		for name := range host {
			if !always[name] {
				ended[name] = "it is exited"
			}
		}
		want("a VM that has ended", w.can(sb), ended)
		_, err := w.svc.Capabilities("default/b")
		mustBe(t, err, errdefs.ErrNotFound)
	})
}

// always are the capabilities that no state of a VM takes away.
var always = map[string]bool{
	"kvm": true, "firmware.efi": true, "limits.update": true, "snapshots.disk": true, "hotplug.cpu.add": true, "hotplug.cpu.remove": true, "hotplug.disk.add": true, "hotplug.disk.remove": true,
	"hotplug.nic.add": true, "hotplug.nic.remove": true,
}

// bareHost is a libvirt that can little.
type bareHost struct{ lifecycle.Hypervisor }

func (bareHost) Host(context.Context, vm.Accel) (vm.Host, error) {
	return vm.Host{Libvirt: "8.0.0", QEMU: "6.2.0"}, nil
}

func TestCapabilitiesAreRefusedWithTheirReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.die()
		w.adjust = func(deps *lifecycle.Deps) { deps.Hypervisor = bareHost{deps.Hypervisor} }
		w.cfg.LibvirtCgroups = true
		w.open(t.Context())
		_, err := w.svc.Capabilities("")
		mustBe(t, err, errdefs.ErrUnavailable)
		w.close()
		w.start()
		got := w.can("")
		for name, want := range map[string]string{
			"kvm":           "virtualization: tcg",
			"mounts.shares": "libvirt 8.0.0 with QEMU 6.2.0 does not list filesystem.driverType virtiofs",
			"firmware.efi":  "libvirt 8.0.0 finds no UEFI firmware",
			"limits.update": "libvirt owns QEMU's cgroups",
		} {
			if !strings.Contains(got[name], want) {
				t.Errorf("%s: %q, want %q", name, got[name], want)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// attach gives a VM a NIC to the default network, or fails the test.
func (w *world) attachNIC(sb, name string) vm.NICAttachment {
	w.t.Helper()
	got, err := w.svc.AttachNIC(w.t.Context(), sb, vm.NICSpec{Name: name}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// nics shows a VM's NICs beside the first, as "name state plugged".
func (w *world) nics(sb string) []string {
	w.t.Helper()
	views, err := w.svc.NICs(sb)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, v := range views[1:] {
		out = append(out, fmt.Sprintf("%s %s %v", v.Name, v.State, v.Plugged))
	}
	return out
}

// noNIC proves that nothing anywhere has a NIC of the sandbox but the first.
func (w *world) noNIC(sb string) {
	w.t.Helper()
	if got := w.nics(sb); len(got) > 0 {
		w.t.Errorf("on record: %v", got)
	}
	if got := w.network.NICs(sb); len(got) > 0 {
		w.t.Errorf("CNI holds %v", got)
	}
	if got := w.hypervisor.NICs(sb); len(got) > 1 {
		w.t.Errorf("the machine has %v", got)
	}
}

func TestAttachedNICIsInMachineAndGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		got, err := w.svc.AttachNIC(t.Context(), "default/a", vm.NICSpec{Name: "eth1", Network: "second", MAC: "02:00:00:00:00:07", IPs: []string{"10.1.0.7"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Guest != vm.NICGuestConfigured || got.NIC.MAC != "02:00:00:00:00:07" || !got.NIC.Plugged || got.NIC.State != vm.NICAttached {
			t.Errorf("got %+v", got)
		}
		plugged := w.hypervisor.NICs(sb)
		if nic, ok := plugged[got.NIC.Tap]; !ok || nic.Down || len(plugged) != 2 {
			t.Errorf("the machine has %v", plugged)
		}
		told := w.guest.NICs(sb)
		if len(told) != 1 || told[0].Name != "eth1" {
			t.Errorf("the guest was told of %v", told)
		}
		// The way out is the pod's.
		for _, r := range told[0].Routes {
			if r.To.Bits() == 0 {
				t.Errorf("a default route by an attached NIC: %v", r)
			}
		}
		if n := w.network.Wired(sb); n != 2 {
			t.Errorf("wired %d times", n)
		}
		calls := w.hypervisor.Calls()
		if i, j := slices.Index(calls, "PlugNIC "+sb), slices.Index(calls, "SetLink "+sb); i < 0 || j < i {
			t.Errorf("calls %v", calls)
		}
		pod, err := w.svc.Sandbox(sb)
		if err != nil || len(pod.Status.Network.IPs()) != 1 {
			t.Errorf("the pod's addresses are %v, %v", pod.Status.Network.IPs(), err)
		}
		if err := w.svc.DetachNIC(t.Context(), c, "eth1", 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.noNIC(sb)
		if told := w.guest.NICs(sb); len(told) != 0 {
			t.Errorf("the guest still knows of %v", told)
		}
		mustBe(t, w.svc.DetachNIC(t.Context(), c, "eth1", 0), errdefs.ErrNotFound)
	})
}

// What the guest says to a tap that is up would be heard by the host.
func TestANICHasNoCarrierBeforeItsTapIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		release := w.network.Block("TapDown")
		attached := make(chan error, 1)
		go func() {
			_, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1"}, nil)
			attached <- err
		}()
		synctest.Wait()
		carriers := func() (up int) {
			for _, nic := range w.hypervisor.NICs(sb) {
				if !nic.Down {
					up++
				}
			}
			return up
		}
		if n := len(w.hypervisor.NICs(sb)); n != 2 || carriers() != 1 {
			t.Errorf("of %d NICs %d have a carrier, want the pod's own alone", n, carriers())
		}
		release()
		if err := <-attached; err != nil || carriers() != 2 {
			t.Errorf("%d NICs have a carrier, %v", carriers(), err)
		}
	})
}

// What was begun beside the wiring has ended before the undo begins.
func TestANICThatIsNotWiredHasNoCarrierLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		release := w.hypervisor.Block("SetLink")
		w.network.FailNext("Wire", errdefs.ErrFailedPrecondition)
		attached := make(chan error, 1)
		go func() {
			_, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1"}, nil)
			attached <- err
		}()
		synctest.Wait()
		if calls := w.hypervisor.Calls(); slices.Contains(calls, "UnplugNIC "+sb) {
			t.Errorf("it is undone while its link is set: %v", calls)
		}
		release()
		mustBe(t, <-attached, errdefs.ErrFailedPrecondition)
		w.noNIC(sb)
	})
}

func TestAttachIsIdempotentByNameAndSpec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		first := w.attachNIC(sb, "eth1")
		again := w.attachNIC(sb, "eth1")
		if again.NIC.MAC != first.NIC.MAC || len(w.network.NICs(sb)) != 1 {
			t.Errorf("first %+v, again %+v, CNI holds %v", first, again, w.network.NICs(sb))
		}
		_, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1", VPC: "v", IPs: []string{"10.0.0.1"}}, []byte("{}"))
		mustBe(t, err, errdefs.ErrAlreadyExists)
		if !strings.Contains(err.Error(), "another cni_config, ips, vpc") {
			t.Errorf("the error does not say what differs: %v", err)
		}
		_, err = w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth0"}, nil)
		mustBe(t, err, errdefs.ErrAlreadyExists)
		_, err = w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth2", MAC: first.NIC.MAC}, nil)
		mustBe(t, err, errdefs.ErrFailedPrecondition)
		mustBe(t, w.svc.DetachNIC(t.Context(), sb, "eth0", 0), errdefs.ErrFailedPrecondition)
		if got := w.nics(sb); len(got) != 1 {
			t.Errorf("NICs %v", got)
		}
	})
}

func TestFailedAttachLeavesNothing(t *testing.T) {
	boom := errors.New("boom")
	for name, fail := range map[string]func(w *world){
		"CNI":               func(w *world) { w.network.FailNext("AttachNIC", boom) },
		"CNI, incompletely": func(w *world) { w.network.FailNext("AttachNIC", fmt.Errorf("boom: %w", revert.ErrIncomplete)) },
		"device":            func(w *world) { w.hypervisor.FailNext("PlugNIC", boom) },
		"wiring":            func(w *world) { w.network.FailNext("Wire", boom) },
		"link":              func(w *world) { w.hypervisor.FailNext("SetLink", boom) },
		"ports":             func(w *world) { w.hypervisor.LimitNICPorts(1) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.running("a")
				fail(w)
				if _, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1"}, nil); err == nil || !strings.Contains(err.Error(), "boom") && !errors.Is(err, errdefs.ErrResourceExhausted) {
					t.Errorf("error = %v", err)
				}
				w.noNIC(sb)
				w.hypervisor.LimitNICPorts(8)
				w.attachNIC(sb, "eth1")
			})
		})
	}
}

// TestUndoHoldsNoLock: a guest that keeps the device of a NIC that could not be wired holds up nobody, and what is left is
// detached by name.
func TestUndoHoldsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.network.FailNext("Wire", errors.New("boom"))
		w.hypervisor.HoldNICs(true)
		ended := make(chan error, 1)
		go func() {
			_, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1"}, nil)
			ended <- err
		}()
		synctest.Wait()
		w.attachNIC(sb, "eth2")
		select {
		case err := <-ended:
			t.Fatalf("the undo did not wait for the guest: %v", err)
		default:
		}
		mustBe(t, <-ended, revert.ErrIncomplete)
		if got := w.nics(sb); !slices.Equal(got, []string{"eth1 Detaching true", "eth2 Attached true"}) {
			t.Errorf("NICs %v", got)
		}
		_, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1"}, nil)
		mustBe(t, err, errdefs.ErrFailedPrecondition)
		w.hypervisor.HoldNICs(false)
		for _, name := range []string{"eth1", "eth2"} {
			if err := w.svc.DetachNIC(t.Context(), sb, name, 0); err != nil {
				t.Error(err)
			}
		}
		w.noNIC(sb)
	})
}

// A name that no interface can have would stay on record for ever: CNI would not hear of it either when it is undone.
func TestWhatCannotBeANICIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		for _, spec := range []vm.NICSpec{{Name: "../x"}, {Name: "a-name-that-is-too-long"}, {Name: "eth1", IPs: []string{"ten"}}} {
			_, err := w.svc.AttachNIC(t.Context(), sb, spec, nil)
			mustBe(t, err, errdefs.ErrInvalidArgument)
			w.noNIC(sb)
		}
		_, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1", Network: "nowhere"}, nil)
		mustBe(t, err, errdefs.ErrNotFound)
		w.noNIC(sb)
		if calls := w.network.Calls(); slices.Contains(calls, "AttachNIC "+sb) {
			t.Errorf("CNI was asked: %v", calls)
		}
	})
}

func TestGuestThatDoesNotLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		nic := w.attachNIC(sb, "eth1").NIC
		w.hypervisor.HoldNICs(true)
		ended := make(chan error, 1)
		go func() { ended <- w.svc.DetachNIC(t.Context(), sb, "eth1", time.Minute) }()
		synctest.Wait()
		// Nobody is held up by it.
		w.attachNIC(sb, "eth2")
		mustBe(t, <-ended, context.DeadlineExceeded)
		if got := w.nics(sb); !slices.Equal(got, []string{"eth1 Attached true", "eth2 Attached true"}) {
			t.Errorf("NICs %v", got)
		}
		if got := w.network.NICs(sb); len(got) != 2 {
			t.Errorf("CNI holds %v", got)
		}
		// It lets go all the same: that is on record, and the same NIC again is plugged again.
		w.hypervisor.HoldNICs(false)
		w.hypervisor.ReleaseNIC(sb, nic.Tap)
		synctest.Wait()
		if got := w.nics(sb); got[0] != "eth1 Attached false" {
			t.Errorf("NICs %v", got)
		}
		if got := w.attachNIC(sb, "eth1"); got.NIC.MAC != nic.MAC || !got.NIC.Plugged {
			t.Errorf("got %+v", got)
		}
		if err := w.svc.DetachNIC(t.Context(), sb, "eth1", 0); err != nil {
			t.Error(err)
		}
		if got := w.nics(sb); !slices.Equal(got, []string{"eth2 Attached true"}) {
			t.Errorf("NICs %v", got)
		}
	})
}

func TestNICsBetweenBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		if got := w.attachNIC(sb, "eth1"); got.Guest != vm.NICGuestNotRunning || got.NIC.Plugged {
			t.Errorf("without a container: %+v", got)
		}
		c := w.created(sb, 0)
		w.attachNIC(sb, "eth2")
		if err := w.svc.DetachNIC(t.Context(), sb, "eth1", 0); err != nil {
			t.Fatal(err)
		}
		if err := w.svc.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.hypervisor.NICs(sb); len(got) != 2 {
			t.Errorf("the machine has %v", got)
		}
		if got := w.guest.NICs(sb); len(got) != 1 || got[0].Name != "eth2" {
			t.Errorf("the guest was told of %v", got)
		}
		if seed, _ := w.disks.File(w.node.Seed(sb)); !strings.Contains(string(seed.Seed), "eth2") || strings.Contains(string(seed.Seed), "eth1") {
			t.Error("the seed does not tell of the NICs that there are")
		}
		// A boot of its own: the agent is told again.
		w.guest.Boot(sb)
		synctest.Wait()
		if got := w.guest.NICs(sb); len(got) != 1 {
			t.Errorf("after a reboot the guest was told of %v", got)
		}
		// Another QEMU.
		w.attachNIC(sb, "eth3")
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI})
		w.guest.Boot(sb)
		if got := <-ended; got.err != nil {
			t.Fatal(got.err)
		}
		if got := w.hypervisor.NICs(sb); len(got) != 3 {
			t.Errorf("after a reboot by ACPI the machine has %v", got)
		}
		// And another container.
		w.hypervisor.PowerOff(sb)
		w.guest.PowerOff(sb)
		w.exit(c)
		next := w.created(sb, 1)
		if err := w.svc.StartContainer(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		if got := w.hypervisor.NICs(sb); len(got) != 3 {
			t.Errorf("the next container's machine has %v", got)
		}
		if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
		w.nothingLeft()
	})
}

func TestLinkState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.attachNIC(sb, "eth1")
		down := func() (names []string) {
			for _, nic := range w.hypervisor.NICs(sb) {
				if nic.Down {
					names = append(names, nic.Name)
				}
			}
			slices.Sort(names)
			return names
		}
		for _, name := range []string{"eth0", "eth1"} {
			if v, err := w.svc.SetLinkState(t.Context(), sb, name, false); err != nil || !v.Down {
				t.Errorf("%+v, %v", v, err)
			}
		}
		if got := down(); !slices.Equal(got, []string{"eth0", "eth1"}) {
			t.Errorf("down: %v", got)
		}
		w.hypervisor.PowerOff(sb)
		w.exit(c)
		if err := w.svc.StartContainer(t.Context(), w.created(sb, 1)); err != nil {
			t.Fatal(err)
		}
		if got := down(); !slices.Equal(got, []string{"eth0", "eth1"}) {
			t.Errorf("after a boot, down: %v", got)
		}
		w.hypervisor.FailNext("SetLink", errors.New("boom"))
		if _, err := w.svc.SetLinkState(t.Context(), sb, "eth0", true); err == nil {
			t.Error("no error")
		}
		if v, err := w.svc.NICs(sb); err != nil || !v[0].Down {
			t.Errorf("the failed call is on record: %+v, %v", v, err)
		}
		if _, err := w.svc.SetLinkState(t.Context(), sb, "eth0", true); err != nil {
			t.Error(err)
		}
		if got := down(); !slices.Equal(got, []string{"eth1"}) {
			t.Errorf("down: %v", got)
		}
		_, err := w.svc.SetLinkState(t.Context(), sb, "eth9", true)
		mustBe(t, err, errdefs.ErrNotFound)
	})
}

func TestNICsOfAPausedVM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.attachNIC(sb, "eth1")
		if err := w.svc.Pause(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		_, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth2"}, nil)
		mustBe(t, err, errdefs.ErrFailedPrecondition)
		mustBe(t, w.svc.DetachNIC(t.Context(), sb, "eth1", 0), errdefs.ErrFailedPrecondition)
		if got := w.nics(sb); !slices.Equal(got, []string{"eth1 Attached true"}) {
			t.Errorf("NICs %v", got)
		}
	})
}

func TestGuestWithoutAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.guest.SetSilent(sb, true)
		if got := w.attachNIC(sb, "eth1"); got.Guest != vm.NICGuestNoAgent || !got.NIC.Plugged {
			t.Errorf("got %+v", got)
		}
		w.guest.SetSilent(sb, false) // it boots nothing: it has its session back
		synctest.Wait()
		if got := w.guest.NICs(sb); len(got) != 1 {
			t.Errorf("the agent that answers later was told of %v", got)
		}
	})
}

// TestNICsCutShort: what a life of the daemon has left half done, the next one finishes or undoes.
func TestNICsCutShort(t *testing.T) {
	for name, tc := range map[string]struct {
		stop func(w *world, sb string)
		want []string
	}{
		"before CNI has answered": {
			stop: func(w *world, sb string) {
				for range 2 { // before the ADD, and when it is undone
					w.network.FailNext("DetachNIC", errors.New("killed"))
				}
			},
		},
		"when CNI has, and libvirt is away": {
			stop: func(w *world, sb string) { w.hypervisor.Disconnect() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.running("a")
				tc.stop(w, sb)
				if _, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1"}, nil); err == nil {
					t.Fatal("no error")
				}
				w.hypervisor.Reconnect()
				w.restart()
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := w.nics(sb); !slices.Equal(got, tc.want) {
					t.Errorf("NICs %v, want %v", got, tc.want)
				}
				w.noNIC(sb)
				w.attachNIC(sb, "eth1")
			})
		})
	}
}

// TestNICRecords: what is done about a NIC on record that nobody works on.
func TestNICRecords(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*vm.AttachedNIC)
		before func(w *world, sb, tap string)
		want   []string
	}{
		"attached":                {change: func(*vm.AttachedNIC) {}, want: []string{"eth1 Attached true"}},
		"attaching, CNI has it":   {change: func(n *vm.AttachedNIC) { n.State = vm.NICAttaching }, before: func(w *world, sb, tap string) { w.hypervisor.ReleaseNIC(sb, tap) }, want: []string{"eth1 Attached true"}},
		"attaching, no one knows": {change: func(n *vm.AttachedNIC) { n.State, n.NIC = vm.NICAttaching, nil }, before: func(w *world, sb, tap string) { w.hypervisor.ReleaseNIC(sb, tap) }},
		"detaching":               {change: func(n *vm.AttachedNIC) { n.State = vm.NICDetaching }},
		"detaching, the guest keeps it": {
			change: func(n *vm.AttachedNIC) { n.State = vm.NICDetaching }, before: func(w *world, _, _ string) { w.hypervisor.HoldNICs(true) },
			want: []string{"eth1 Attached true"},
		},
		"to be undone":    {change: func(n *vm.AttachedNIC) { n.State, n.Undo = vm.NICDetaching, true }},
		"lost while away": {change: func(*vm.AttachedNIC) {}, before: func(w *world, sb, tap string) { w.hypervisor.ReleaseNIC(sb, tap) }, want: []string{"eth1 Attached false"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.running("a")
				tap := w.attachNIC(sb, "eth1").NIC.Tap
				w.die()
				w.open(t.Context())
				if _, err := w.store.Sandboxes().Update(sb, "test", func(s vm.Sandbox) (vm.Sandbox, error) {
					n, _ := s.Status.AttachedNIC("eth1")
					tc.change(&n)
					s.Status = s.Status.WithNIC(n)
					return s, nil
				}); err != nil {
					t.Fatal(err)
				}
				w.close()
				if tc.before != nil {
					tc.before(w, sb, tap)
				}
				w.start()
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := w.nics(sb); !slices.Equal(got, tc.want) {
					t.Errorf("NICs %v, want %v", got, tc.want)
				}
				if len(tc.want) == 0 {
					w.noNIC(sb)
				}
				w.hypervisor.HoldNICs(false)
				if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
					t.Fatal(err)
				}
				w.nothingLeft()
			})
		})
	}
}

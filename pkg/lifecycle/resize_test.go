// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// made makes a pod as kubelet does, with the pod's sums beside the container's limits, up to
// its created container.
func (w *world) made(limits vm.Resources, ask map[string]string) (sandboxID, containerID string) {
	w.t.Helper()
	pod, spec := podSpec("a"), containerSpec(0)
	pod.Annotations, pod.Resources, spec.Resources = ask, &limits, &limits
	sandboxID, err := w.svc.RunSandbox(w.t.Context(), pod)
	if err != nil {
		w.t.Fatal(err)
	}
	if containerID, err = w.svc.CreateContainer(w.t.Context(), sandboxID, spec); err != nil {
		w.t.Fatal(err)
	}
	return sandboxID, containerID
}

func (w *world) start1(containerID string) {
	w.t.Helper()
	if err := w.svc.StartContainer(w.t.Context(), containerID); err != nil {
		w.t.Fatal(err)
	}
}

// oneAndAHalf is made into a guest of 2 CPUs and 353 MiB.
func oneAndAHalf() vm.Resources {
	return vm.Resources{CPUPeriod: 100000, CPUQuota: 150000, CPUShares: 1536, MemoryLimit: 512 * vm.MiB, OOMScoreAdj: 900}
}

func (w *world) limits(sandboxID string) vm.Resources {
	w.t.Helper()
	g, ok := w.cgroups.Groups()[sandboxID]
	if !ok {
		w.t.Fatal("there is no group")
	}
	return g.Resources
}

func TestLimitsThatFitTheMachineChangeUnderIt(t *testing.T) {
	for name, tc := range map[string]struct{ change, want vm.Resources }{
		"less CPU time": {vm.Resources{CPUQuota: 50000, CPUShares: 512}, vm.Resources{CPUPeriod: 100000, CPUQuota: 50000, CPUShares: 512, MemoryLimit: 512 * vm.MiB, OOMScoreAdj: 900}},
		"all CPUs":      {vm.Resources{CPUQuota: 200000}, vm.Resources{CPUPeriod: 100000, CPUQuota: 200000, CPUShares: 1536, MemoryLimit: 512 * vm.MiB, OOMScoreAdj: 900}},
		"other CPUs":    {vm.Resources{CpusetCPUs: "0", CpusetMems: "0"}, vm.Resources{CPUPeriod: 100000, CPUQuota: 150000, CPUShares: 1536, MemoryLimit: 512 * vm.MiB, OOMScoreAdj: 900, CpusetCPUs: "0", CpusetMems: "0"}},
		"kubelet's whole request": {
			vm.Resources{CPUPeriod: 100000, CPUQuota: 100000, CPUShares: 1024, MemoryLimit: 512 * vm.MiB, OOMScoreAdj: 800},
			vm.Resources{CPUPeriod: 100000, CPUQuota: 100000, CPUShares: 1024, MemoryLimit: 512 * vm.MiB, OOMScoreAdj: 800},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.made(oneAndAHalf(), nil)
			w.start1(c)
			if err := w.svc.UpdateContainerResources(t.Context(), c, tc.change); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, w.limits(sb)); diff != "" {
				t.Errorf("the group's limits: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(&tc.want, w.container(c).Present().Resources); diff != "" {
				t.Errorf("what is told: -want +got:\n%s", diff)
			}
			w.restart()
			if diff := cmp.Diff(&tc.want, w.container(c).Present().Resources); diff != "" {
				t.Errorf("after a restart: -want +got:\n%s", diff)
			}
		})
	}
}

func TestLimitsThatNeedAnotherMachineAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		ask    map[string]string
		change vm.Resources
		says   []string
	}{
		"more memory": {nil, vm.Resources{MemoryLimit: vm.GiB}, []string{"the guest's memory of 353 MiB", "limit of 1024 MiB", "keep the limit", annotations.Memory}},
		"less memory": {nil, vm.Resources{MemoryLimit: 256 * vm.MiB}, []string{"limit of 256 MiB"}},
		"more CPUs":   {nil, vm.Resources{CPUQuota: 200001}, []string{"has 2 CPUs", "cannot have 3", "up to 2 CPUs is possible"}},
		"less memory than the guest was asked to have": {
			map[string]string{annotations.Memory: "300Mi"}, vm.Resources{MemoryLimit: 400 * vm.MiB}, []string{"the guest has 300 MiB", "room for 241 MiB"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.made(oneAndAHalf(), tc.ask)
			for _, state := range []string{"created", "running"} {
				if state == "running" {
					w.start1(c)
				}
				before := w.container(c)
				pod := *before.Spec.Resources
				for what, update := range map[string]func() error{
					"container": func() error { return w.svc.UpdateContainerResources(t.Context(), c, tc.change) },
					"sandbox": func() error {
						change := pod.Merge(tc.change) // kubelet sends all of the pod's
						return w.svc.UpdateSandboxResources(t.Context(), sb, &change, nil)
					},
				} {
					err := update()
					mustBe(t, err, errdefs.ErrFailedPrecondition)
					for _, text := range tc.says {
						if !strings.Contains(err.Error(), text) {
							t.Errorf("%s, %s: %q does not say %q", state, what, err, text)
						}
					}
				}
				if diff := cmp.Diff(before, w.container(c)); diff != "" {
					t.Errorf("%s: -before +after:\n%s", state, diff)
				}
			}
			if diff := cmp.Diff(oneAndAHalf(), w.limits(sb)); diff != "" {
				t.Errorf("the group's limits: -want +got:\n%s", diff)
			}
		})
	}
}

func TestALimitIsFreeAboveAMemoryThatWasAskedFor(t *testing.T) {
	w := newWorld(t)
	sb, c := w.made(oneAndAHalf(), map[string]string{annotations.Memory: "300Mi", annotations.VCPUs: "1"})
	w.start1(c)
	for _, change := range []vm.Resources{{MemoryLimit: 2 * vm.GiB, CPUQuota: 400000}, {MemoryLimit: 468 * vm.MiB}} {
		if err := w.svc.UpdateSandboxResources(t.Context(), sb, &change, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.svc.UpdateContainerResources(t.Context(), c, change); err != nil {
			t.Fatal(err)
		}
		if got := w.limits(sb).MemoryLimit; got != change.MemoryLimit {
			t.Errorf("the group's limit is %d, want %d", got, change.MemoryLimit)
		}
	}
}

func TestAContainerThatIsNotStartedYetStartsWithItsNewLimits(t *testing.T) {
	w := newWorld(t)
	sb, c := w.made(oneAndAHalf(), nil)
	if err := w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{CPUQuota: 50000}); err != nil {
		t.Fatal(err)
	}
	w.start1(c)
	if got := w.limits(sb).CPUQuota; got != 50000 {
		t.Errorf("quota is %d", got)
	}
}

func TestThePodsOverheadReachesTheGroup(t *testing.T) {
	w := newWorld(t)
	sb, c := w.made(oneAndAHalf(), nil)
	w.start1(c)
	if err := w.svc.UpdateSandboxResources(t.Context(), sb, nil, &vm.Resources{MemoryLimit: 160 * vm.MiB}); err != nil {
		t.Fatal(err)
	}
	if got := w.limits(sb).MemoryLimit; got != 672*vm.MiB {
		t.Errorf("the group's limit is %d MiB", got/vm.MiB)
	}
}

// kubelet counts a pod's init container too: sums that did not change say nothing of the VM.
func TestThePodsSumsMayBeLargerThanTheVMs(t *testing.T) {
	w := newWorld(t)
	pod, spec := podSpec("a"), containerSpec(0)
	limits, sums := oneAndAHalf(), vm.Resources{CPUPeriod: 100000, CPUQuota: 900000, CPUShares: 9000, MemoryLimit: vm.GiB}
	pod.Resources, spec.Resources = &sums, &limits
	sb, err := w.svc.RunSandbox(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.svc.CreateContainer(t.Context(), sb, spec); err != nil {
		t.Fatal(err)
	}
	change := sums
	change.CPUShares = 9500
	if err := w.svc.UpdateSandboxResources(t.Context(), sb, &change, nil); err != nil {
		t.Error(err)
	}
}

func TestLimitsThatTheKernelRefusesAreNotRecorded(t *testing.T) {
	w := newWorld(t)
	sb, c := w.made(oneAndAHalf(), nil)
	w.start1(c)
	refused := errors.New("the kernel said no")
	w.cgroups.FailNext("Update", refused)
	mustBe(t, w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{CPUQuota: 50000}), refused)
	w.cgroups.FailNext("Update", refused)
	mustBe(t, w.svc.UpdateSandboxResources(t.Context(), sb, &vm.Resources{CPUShares: 2}, &vm.Resources{MemoryLimit: vm.MiB}), refused)
	if st := w.container(c).Status; st.Resources != nil {
		t.Errorf("on record are %+v", st.Resources)
	}
	got, err := w.svc.Sandbox(sb)
	if err != nil || got.Status.Resources != nil || got.Status.Overhead != nil {
		t.Errorf("on record are %+v, %v", got.Status, err)
	}
}

func TestLimitsOnRecordAreGivenAfterACrash(t *testing.T) {
	w := newWorld(t)
	sb, c := w.made(oneAndAHalf(), nil)
	w.start1(c)
	limits := oneAndAHalf()
	limits.CPUQuota = 50000
	if _, err := w.store.Containers().Update(c, "test", func(c vm.Container) (vm.Container, error) {
		c.Status.Resources = &limits
		return c, nil
	}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got := w.limits(sb).CPUQuota; got != 50000 {
		t.Errorf("quota is %d", got)
	}
}

func TestWhatHasEndedHasNoLimitsToChange(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	mustBe(t, w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{CPUShares: 2}), errdefs.ErrFailedPrecondition)
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	mustBe(t, w.svc.UpdateSandboxResources(t.Context(), sb, &vm.Resources{CPUShares: 2}, nil), errdefs.ErrFailedPrecondition)
	mustBe(t, w.svc.UpdateContainerResources(t.Context(), "gone", vm.Resources{}), errdefs.ErrNotFound)
	mustBe(t, w.svc.UpdateSandboxResources(t.Context(), "gone", nil, nil), errdefs.ErrNotFound)
}

func TestLimitsInADefinitionStay(t *testing.T) {
	w := newWorld(t)
	w.cfg.LibvirtCgroups = true
	w.restart()
	_, c := w.running("a")
	err := w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{CPUShares: 2})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	if !strings.Contains(err.Error(), "cgroups: libvirt") {
		t.Error(err)
	}
}

// A vmlet before schema version 3 did not record it.
func TestASizeThatIsNotOnRecordIsThatOfTheSpec(t *testing.T) {
	w := newWorld(t)
	_, c := w.made(oneAndAHalf(), nil)
	w.start1(c)
	if _, err := w.store.Containers().Update(c, "test", func(c vm.Container) (vm.Container, error) {
		c.Status.Size = vm.MachineSize{}
		return c, nil
	}); err != nil {
		t.Fatal(err)
	}
	mustBe(t, w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{CPUQuota: 300000}), errdefs.ErrFailedPrecondition)
	if err := w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{CPUQuota: 200000}); err != nil {
		t.Error(err)
	}
}

func TestALaterContainerIsSizedByThePodsPresentLimits(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	if err := w.svc.UpdateSandboxResources(t.Context(), sb, &vm.Resources{CPUPeriod: 100000, CPUQuota: 300000}, nil); err != nil {
		t.Fatal(err)
	}
	w.created(sb, 0)
	if m, _ := w.hypervisor.Machine(sb); m.CPU.Count != 3 {
		t.Errorf("the guest has %d CPUs", m.CPU.Count)
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/vmlet/vmlet/tests/harness"
)

// modelOpsEnv says how many operations the model does: 300 by `make model`. Without it a run ends when each kind of them was done,
// and after modelMost at the latest.
const (
	modelOpsEnv = "VMLET_MODEL_OPS"
	modelMost   = 60
)

// model is a node with two VMs, beside what they should be.
type model struct {
	t           *testing.T
	rt          *rapid.T
	node        *harness.Node
	checkpoints checkpointing
	vms         []*modelVM
	// number makes what is written differ from all that was written before.
	number int
	// trail is what was done so far, done how often each kind of it.
	trail []string
	done  map[string]int
	// disturbed says that the last operation has ended vmlet or libvirtd, nothing that it was refused.
	disturbed, nothing bool
}

// modelOp is an operation. It is drawn as often as weight says among those that can be done.
type modelOp struct {
	name   string
	weight int
	// can says whether the VM is in a state for it; nil for always.
	can func(v *modelVM) bool
	do  func(v *modelVM)
}

// modelAfter names kinds of operations that take away what others need: those come first where each is to be done once.
var modelAfter = map[string]string{"resize a disk": "write to a disk", "detach a disk": "resize a disk", "detach a NIC": "detach a disk"}

// ops are all operations.
func (m *model) ops() []modelOp {
	return []modelOp{
		{"write a file", 6, on, (*modelVM).write},
		{"keep in memory", 2, on, (*modelVM).keep},
		{"snapshot", 6, nil, (*modelVM).snapshot},
		{"restore", 6, (*modelVM).hasSnapshots, (*modelVM).restore},
		{"delete a snapshot", 4, (*modelVM).hasSnapshots, (*modelVM).deleteSnapshot},
		{"attach a NIC", 4, notPaused, (*modelVM).attachNIC},
		{"detach a NIC", 3, (*modelVM).canDetachNIC, (*modelVM).detachNIC},
		{"attach a disk", 4, nil, (*modelVM).attachDisk},
		{"write to a disk", 4, (*modelVM).canWriteDisk, (*modelVM).writeDisk},
		{"resize a disk", 2, (*modelVM).canWriteDisk, (*modelVM).resizeDisk},
		{"detach a disk", 4, (*modelVM).canDetachDisk, (*modelVM).detachDisk},
		{"resize CPUs", 3, nil, (*modelVM).resizeCPUs},
		{"resize memory", 4, nil, (*modelVM).resizeMemory},
		{"checkpoint", 2, nil, (*modelVM).checkpoint},
		{"move by a checkpoint", 6, (*modelVM).movable, (*modelVM).move},
		{"reboot", 3, on, (*modelVM).reboot},
		{"pause", 2, on, (*modelVM).pause},
		{"resume", 8, paused, (*modelVM).resume},
		{"power off", 2, on, (*modelVM).powerOff},
		{"power on", 8, held, (*modelVM).powerOn},
		{"stop", 1, notOff, (*modelVM).stop},
		{"start", 8, off, (*modelVM).start},
		{"restart vmlet", 1, nil, func(*modelVM) { m.node.Stop(); m.startVmlet() }},
		{"kill vmlet", 1, nil, func(*modelVM) { m.node.Kill9(); m.startVmlet() }},
		{"restart libvirtd", 1, nil, func(*modelVM) { harness.StopLibvirtd(m.t); m.startLibvirtd() }},
		{"kill libvirtd", 1, nil, func(*modelVM) { harness.KillLibvirtd(m.t); m.startLibvirtd() }},
	}
}

func (m *model) startVmlet()    { m.node.Start(); m.disturbed = true }
func (m *model) startLibvirtd() { harness.StartLibvirtd(m.t); m.disturbed = true }

func on(v *modelVM) bool        { return v.state == vmOn }
func off(v *modelVM) bool       { return v.state == vmOff }
func paused(v *modelVM) bool    { return v.state == vmPaused }
func held(v *modelVM) bool      { return v.state == vmHeld }
func notOff(v *modelVM) bool    { return v.state != vmOff }
func notPaused(v *modelVM) bool { return v.state != vmPaused }

// TestModelOfVMs is a model on real guests: whatever is done to two VMs, in whichever order, and whatever is killed in the middle of
// it, what their guests have on disks and in memory, their layers and their addresses are what was done, and nothing is left in
// the end. A run is had again by its seed.
func TestModelOfVMs(t *testing.T) {
	ops := 0
	if n, err := strconv.Atoi(os.Getenv(modelOpsEnv)); err == nil {
		ops = n
	}
	setFlags(t, map[string]string{"rapid.checks": "1", "rapid.seed": strconv.FormatUint(harness.Seed(t), 10), "rapid.nofailfile": "true"})
	checkpoints := newCheckpointing(t)
	m := &model{t: t, node: checkpoints.Node, checkpoints: checkpoints, done: map[string]int{}}
	secondNetwork(t, m.node)
	t.Cleanup(func() {
		for i, step := range m.trail {
			t.Logf("%3d %s", i+1, step)
		}
	})
	for _, name := range []string{"one", "two"} {
		m.vms = append(m.vms, newModelVM(m, name))
	}
	for _, v := range m.vms {
		v.boot = v.pod.WaitReady()
		v.checkGuest()
	}
	// What fails ends the test on its own goroutine, and so rapid, too: to have it fail again, as rapid would, takes a node of its own.
	rapid.Check(t, func(rt *rapid.T) {
		defer func() {
			if p := recover(); p != nil {
				m.fatalf("%v\n%s", p, debug.Stack())
			}
		}()
		m.rt = rt
		for len(m.trail) < ops || ops == 0 && len(m.trail) < modelMost && len(m.done) < len(m.ops()) {
			m.step()
		}
		t.Logf("%d operations, of %d kinds of %d", len(m.trail), len(m.done), len(m.ops()))
		m.end()
	})
}

// setFlags sets flags of the test binary until the test ends.
func setFlags(t *testing.T, values map[string]string) {
	t.Helper()
	for name, value := range values {
		f := flag.Lookup(name)
		if f == nil {
			t.Fatalf("there is no flag %s", name)
		}
		was := f.Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := flag.Set(name, was); err != nil {
				t.Error(err)
			}
		})
	}
}

// step draws an operation that can be done, does it, and looks at what came of it.
func (m *model) step() {
	v := m.vms[rapid.IntRange(0, len(m.vms)-1).Draw(m.rt, "vm")]
	op := m.draw(v)
	m.trail = append(m.trail, v.name+": "+op.name)
	m.disturbed, m.nothing = false, false
	began := time.Now()
	op.do(v)
	took := time.Since(began)
	if !m.nothing {
		m.done[op.name]++
	}
	for _, w := range m.vms {
		// What went wrong with the other one is seen when its turn comes.
		if w == v || m.disturbed {
			w.check()
		}
	}
	m.t.Logf("%3d %s: %s, and %s to look at it", len(m.trail), m.trail[len(m.trail)-1],
		took.Round(time.Millisecond), (time.Since(began) - took).Round(time.Millisecond))
}

// draw is one of the operations that can be done: mostly of those that were not done yet, while there are such.
func (m *model) draw(v *modelVM) modelOp {
	var can, undone []modelOp
	for _, op := range m.ops() {
		if op.can != nil && !op.can(v) {
			continue
		}
		as := slices.Repeat([]modelOp{op}, op.weight)
		can = append(can, as...)
		if before, some := modelAfter[op.name]; m.done[op.name] == 0 && (!some || m.done[before] > 0) {
			undone = append(undone, as...)
		}
	}
	if len(undone) > 0 && rapid.IntRange(0, 3).Draw(m.rt, "undone") < 3 {
		can = undone
	}
	// rapid draws small numbers more often than others; which operations those are changes from step to step.
	return can[(rapid.IntRange(0, len(can)-1).Draw(m.rt, "op")+37*len(m.trail))%len(can)]
}

// tell adds to the last step of the trail.
func (m *model) tell(format string, args ...any) {
	m.trail[len(m.trail)-1] += " " + fmt.Sprintf(format, args...)
}

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("step %d: %s", len(m.trail), fmt.Sprintf(format, args...))
}

// fresh is a text that was never written before.
func (m *model) fresh() string {
	m.number++
	return fmt.Sprintf("text-%d", m.number)
}

// must makes a call until it is answered: what is restarted or killed meanwhile is no answer. In one of eight calls vmlet or libvirtd
// is killed in the middle. again are the codes by which a second call says that the first was done.
func (m *model) must(what string, do func(ctx context.Context) error, again ...codes.Code) {
	m.t.Helper()
	interrupted := false
	answer := make(chan error, 1)
	ctx, cancel := context.WithTimeout(m.t.Context(), 4*time.Minute)
	defer cancel()
	go func() { answer <- do(ctx) }()
	if lot := rapid.IntRange(0, 15).Draw(m.rt, "killed meanwhile"); lot < 2 {
		interrupted = true
		wait := time.Duration(rapid.IntRange(0, 400).Draw(m.rt, "after ms")) * time.Millisecond
		m.tell("(%s killed after %s)", []string{"vmlet", "libvirtd"}[lot], wait)
		time.Sleep(wait) // anywhere in the call
		if lot == 0 {
			m.node.Kill9()
			m.startVmlet()
		} else {
			harness.KillLibvirtd(m.t)
			m.startLibvirtd()
		}
	}
	err := <-answer
	deadline := time.Now().Add(2 * time.Minute)
	for n := 1; ; n++ {
		code := status.Code(err)
		if err == nil || n > 1 && interrupted && slices.Contains(again, code) {
			return
		}
		// Unavailable also without a kill: libvirtd may have been restarted by the operation before.
		if code != codes.Unavailable && !interrupted || time.Now().After(deadline) {
			m.fatalf("%s: %v", what, err)
		}
		m.t.Logf("%s, try %d: %v", what, n, err)
		time.Sleep(100 * time.Millisecond)
		err = do(ctx)
	}
}

// refused is must for what is refused, whatever is killed meanwhile.
func (m *model) refused(what string, with codes.Code, do func(ctx context.Context) error) {
	m.t.Helper()
	m.tell("refused")
	m.nothing = true
	m.must(what, func(ctx context.Context) error {
		err := do(ctx)
		switch {
		case status.Code(err) == with:
			return nil
		case err == nil:
			m.t.Errorf("step %d: %s was not refused", len(m.trail), what)
		}
		return err
	})
}

// end takes all away again: one file is left of each VM's root disk, and of the rest nothing.
func (m *model) end() {
	for _, v := range m.vms {
		m.trail = append(m.trail, v.name+": the end")
		if v.state == vmPaused {
			v.resume()
		}
		for _, name := range v.names() {
			v.delete(name)
		}
		for _, name := range sortedKeys(v.nics) {
			v.dropNIC(name)
		}
		for _, name := range sortedKeys(v.disks) {
			v.dropDisk(name, true)
		}
		v.check()
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// What VMs of the model begin with and can have, in CPUs and MiB.
const (
	modelCPUs, modelMaxCPUs     = 1, 3
	modelMemory, modelMaxMemory = 192, 448
	// linuxBlock is what Linux adds memory by, and a device that has room for a part of one more is not plugged into there.
	linuxBlock = 128
)

var modelHeadroom = map[string]string{
	"vmlet.io/vcpus": strconv.Itoa(modelCPUs), "vmlet.io/max-vcpus": strconv.Itoa(modelMaxCPUs),
	"vmlet.io/memory": fmt.Sprintf("%dMi", modelMemory), "vmlet.io/max-memory": fmt.Sprintf("%dMi", modelMaxMemory),
}

// modelSize is the size of a machine: its CPUs, and the MiB of memory that it has and has booted with.
type modelSize struct {
	cpus         int
	memory, boot int64
}

// modelAsked is what a sandbox's next machine is to have; 0 for what its pod says.
type modelAsked struct {
	cpus   int
	memory int64
}

// sizeAtStart is the size of a machine that is made now.
func (v *modelVM) sizeAtStart() modelSize {
	size := modelSize{cpus: modelCPUs, memory: modelMemory}
	if v.asked.cpus > 0 {
		size.cpus = v.asked.cpus
	}
	if v.asked.memory > 0 {
		size.memory = v.asked.memory
	}
	size.boot = size.memory
	return size
}

// resized says that the machine is not as the pod would have it.
func (v *modelVM) resized() bool {
	return v.size != modelSize{cpus: modelCPUs, memory: modelMemory, boot: modelMemory}
}

// resize resizes until it is answered, and returns the answer; nil where it is refused.
func (v *modelVM) resize(refused bool, req *vmletv1.ResizeRequest) (did *vmletv1.ResizeResponse) {
	v.m.t.Helper()
	req.Vm = v.pod.SandboxID
	call := func(ctx context.Context) (err error) {
		did, err = v.m.node.VMs.Resize(ctx, req)
		return err
	}
	if refused {
		v.m.refused("resize", codes.FailedPrecondition, call)
		return nil
	}
	v.m.must("resize", call)
	return did
}

// resizeCPUs gives it other CPUs: more are plugged, fewer are a quota until its next machine.
func (v *modelVM) resizeCPUs() {
	n := rapid.IntRange(1, modelMaxCPUs+1).Draw(v.m.rt, "CPUs")
	v.m.tell("to %d", n)
	for range 8 {
		did := v.resize(v.state == vmHeld || n > modelMaxCPUs && v.state != vmOff, &vmletv1.ResizeRequest{Cpus: uint32(n), WaitMs: 2000})
		if did == nil {
			return
		}
		v.asked.cpus = n
		switch outcome := did.GetCpus().GetOutcome(); {
		case v.state == vmOff && outcome == vmletv1.ResizeOutcome_RESIZE_OUTCOME_NEXT_MACHINE:
			return
		case outcome == vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED && did.GetCpus().GetAfter() == int64(n):
			v.size.cpus = max(v.size.cpus, n)
			return
		case outcome != vmletv1.ResizeOutcome_RESIZE_OUTCOME_PARTLY || !strings.Contains(did.GetCpus().GetDetail(), "translation cache"):
			v.m.fatalf("resized to %d CPUs: %v", n, did)
		}
		v.size.cpus = int(did.GetGuestCpus())
		if v.state != vmOn {
			return // who is paused runs nothing that would help
		}
		v.exec(fillCache)
	}
	v.m.fatalf("it cannot be given %d CPUs", n)
}

// resizeMemory gives it more memory or less.
func (v *modelVM) resizeMemory() {
	sizes := []int64{modelMemory - 64, modelMemory, modelMemory + 64, modelMemory + 128, modelMaxMemory, modelMaxMemory + 64}
	if v.state == vmOff {
		sizes = sizes[1:5] // nothing is judged before there is a machine
	}
	sizes = slices.DeleteFunc(sizes, func(n int64) bool { return n == v.size.memory })
	n := rapid.SampledFrom(sizes).Draw(v.m.rt, "MiB")
	v.m.tell("to %d MiB", n)
	refused := v.state == vmHeld || v.state == vmPaused || v.state == vmOn && (n < v.size.boot || n > modelMaxMemory)
	did := v.resize(refused, &vmletv1.ResizeRequest{MemoryBytes: n * mib, WaitMs: 15000}).GetMemoryBytes()
	after := did.GetAfter() / mib
	switch outcome := did.GetOutcome(); {
	case refused:
		return
	case v.state == vmOff && outcome == vmletv1.ResizeOutcome_RESIZE_OUTCOME_NEXT_MACHINE:
		v.asked.memory = n
		return
	case outcome == vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED && after == n:
	case outcome == vmletv1.ResizeOutcome_RESIZE_OUTCOME_PARTLY && (n < after && after <= v.size.memory || n > after && after == v.reach()):
		// It uses the rest, or cannot use it. What is asked for is what it has from now on.
		v.m.tell("partly, to %d MiB", after)
		v.resize(false, &vmletv1.ResizeRequest{MemoryBytes: after * mib})
	default:
		v.m.fatalf("resized to %d MiB: %v", n, did)
	}
	v.size.memory, v.asked.memory = after, after
}

// reach is what its Linux can be given while it runs.
func (v *modelVM) reach() int64 {
	return v.size.boot + (modelMaxMemory-v.size.boot)/linuxBlock*linuxBlock
}

// rightTotal judges what Linux says that it has, in KiB.
func (v *modelVM) rightTotal(text string) error {
	kib, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return err
	}
	if v.total == 0 { // the first that is seen of it
		v.total = kib << 10
	}
	// Of what it has booted with, the kernel keeps a part for itself that grows with it.
	want, give := v.total+(v.size.memory-modelMemory)*mib, mib+(v.size.boot-modelMemory)*mib/16
	if v.size.boot == modelMaxMemory {
		want += 64 * mib // what a guest sets aside that may get more memory (swiotlb)
	}
	if got := kib << 10; got < want-give || got > want+mib {
		return fmt.Errorf("step %d: the guest of %s has %d bytes, want %d", len(v.m.trail), v.name, got, want)
	}
	return nil
}

// checkSize holds the size that libvirt knows.
func (v *modelVM) checkSize() {
	v.m.t.Helper()
	v.m.node.Eventually(time.Minute, func() error { // it hears of the guest's memory once a second
		plugged := v.size.memory - v.size.boot
		return errors.Join(
			domainSize(v.m.t, v.pod.DomainName(), v.size.cpus, plugged),
			domainSize(v.m.t, v.pod.DomainName(), v.size.cpus, plugged, "--inactive"),
		)
	})
}

// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// fake is the use cases in memory. It keeps what it was asked for and does what it was
// told to answer.
type fake struct {
	capabilities []vm.Capability

	mu         sync.Mutex
	sandboxes  []vm.Sandbox
	containers []vm.Container
	images     []vm.Image
	stats      []vm.Stats
	usage      vm.FSUsage
	events     []vm.ContainerEvent // SubscribeEvents tells of these, and ends
	calls      []string
	auth       vm.RegistryAuth
	grace      time.Duration
	restored   vm.PodRestore
	change     vm.Resources
	limits     *vm.Resources
	overhead   *vm.Resources

	exec                       func(ctx context.Context, req vm.ExecRequest) (vm.ExecResult, error)
	err                        error // of every mutating call
	runtimeReady, networkReady error
	now                        time.Time
}

var _ UseCases = (*fake)(nil)

func newFake() *fake { return &fake{now: time.Unix(1700000000, 42)} }

func (f *fake) called(call string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, strings.TrimSpace(call+" "+fmt.Sprintln(args...)))
	return f.err
}

// tick makes every record a second younger than the one before.
func (f *fake) tick() time.Time {
	f.now = f.now.Add(time.Second)
	return f.now
}

func (f *fake) RunSandbox(_ context.Context, spec vm.SandboxSpec) (string, error) {
	if err := f.called("RunSandbox", spec.Name); err != nil {
		return "", err
	}
	id := fmt.Sprintf("%032x", len(f.sandboxes)+0xa000)
	f.sandboxes = append(f.sandboxes, vm.Sandbox{
		ID: id, Spec: spec, CreatedAt: f.tick(), Status: vm.SandboxStatus{State: vm.SandboxReady},
	})
	return id, nil
}

func (f *fake) Checkpoint(ctx context.Context, sandboxID, dir string) (vm.Checkpoint, error) {
	_, limited := ctx.Deadline()
	return vm.Checkpoint{}, f.called("Checkpoint", sandboxID, dir, limited)
}

func (f *fake) RestorePod(_ context.Context, req vm.PodRestore) (vm.RestoredPod, error) {
	f.restored = req
	return vm.RestoredPod{SandboxID: "sandbox", ContainerID: "container"}, f.called("RestorePod", req.Dir)
}

func (f *fake) StopSandbox(_ context.Context, id string) error { return f.called("StopSandbox", id) }

func (f *fake) RemoveSandbox(_ context.Context, id string) error {
	return f.called("RemoveSandbox", id)
}

func (f *fake) Sandbox(id string) (vm.Sandbox, error) {
	return byPrefix(f.sandboxes, id, func(s vm.Sandbox) string { return s.ID })
}

func (f *fake) Sandboxes() []*vm.Sandbox { return addresses(f.sandboxes) }

func (*fake) SandboxDisks(sb vm.Sandbox) []vm.Disk { return sb.Status.Disks }

func (f *fake) CreateContainer(_ context.Context, sandboxID string, spec vm.ContainerSpec) (string, error) {
	if err := f.called("CreateContainer", sandboxID, spec.Name); err != nil {
		return "", err
	}
	id := fmt.Sprintf("%032x", len(f.containers)+0xc000)
	spec.ImageID = "sha256:" + strings.Repeat("1", 64)
	f.containers = append(f.containers, vm.Container{
		ID: id, SandboxID: sandboxID, Spec: spec, CreatedAt: f.tick(), Status: vm.ContainerStatus{State: vm.ContainerCreated},
	})
	return id, nil
}

func (f *fake) StartContainer(_ context.Context, id string) error {
	return f.called("StartContainer", id)
}

func (f *fake) StopContainer(_ context.Context, id string, grace time.Duration) error {
	f.grace = grace
	return f.called("StopContainer", id)
}

func (f *fake) RemoveContainer(_ context.Context, id string) error {
	return f.called("RemoveContainer", id)
}

func (f *fake) UpdateContainerResources(_ context.Context, id string, change vm.Resources) error {
	f.change = change
	return f.called("UpdateContainerResources", id)
}

func (f *fake) UpdateSandboxResources(_ context.Context, id string, limits, overhead *vm.Resources) error {
	f.limits, f.overhead = limits, overhead
	return f.called("UpdateSandboxResources", id)
}

func (f *fake) Container(id string) (vm.Container, error) {
	return byPrefix(f.containers, id, func(c vm.Container) string { return c.ID })
}

func (f *fake) Containers() []*vm.Container { return addresses(f.containers) }

func (f *fake) Exec(ctx context.Context, id string, req vm.ExecRequest) (vm.ExecResult, error) {
	if err := f.called("Exec", id); err != nil {
		return vm.ExecResult{}, err
	}
	return f.exec(ctx, req)
}

func (f *fake) ReopenLog(_ context.Context, id string) error { return f.called("ReopenLog", id) }

func (f *fake) SubscribeEvents(context.Context) <-chan vm.ContainerEvent {
	ch := make(chan vm.ContainerEvent, len(f.events))
	defer close(ch)
	for _, e := range f.events {
		ch <- e
	}
	return ch
}

func (f *fake) Stats(id string) (vm.Stats, error) {
	for _, s := range f.stats {
		if s.ContainerID == id {
			return s, nil
		}
	}
	return vm.Stats{}, fmt.Errorf("stats of %s: %w", id, errdefs.ErrNotFound)
}

func (f *fake) AllStats() []vm.Stats { return slices.Clone(f.stats) }

func (f *fake) PullImage(ctx context.Context, ref string, auth vm.RegistryAuth, _ func(vm.PullProgress)) (vm.Image, error) {
	f.auth = auth
	if err := f.called("PullImage", ref); err != nil {
		return vm.Image{}, err
	}
	return f.Image(ctx, ref)
}

func (f *fake) Image(_ context.Context, ref string) (vm.Image, error) {
	for _, img := range f.images {
		if img.ID == ref || slices.Contains(img.Tags, ref) || slices.Contains(img.Digests, ref) {
			return img, nil
		}
	}
	return vm.Image{}, fmt.Errorf("image: %w", errdefs.ErrNotFound)
}

func (f *fake) Images(context.Context) ([]vm.Image, error) { return f.images, nil }

func (f *fake) RemoveImage(_ context.Context, ref string) error { return f.called("RemoveImage", ref) }

func (f *fake) ImageUsage(context.Context) (vm.FSUsage, error) { return f.usage, nil }

func (f *fake) Capabilities(ref string) ([]vm.Capability, error) {
	if ref != "" || f.capabilities == nil {
		return nil, errdefs.ErrUnavailable
	}
	return f.capabilities, nil
}

func (f *fake) RuntimeReady(context.Context) error { return f.runtimeReady }

func (f *fake) NetworkReady(context.Context) error { return f.networkReady }

// addresses are those of records, which tests replace as a whole, like the slices.
func addresses[T any](records []T) []*T {
	all := make([]*T, len(records))
	for i := range records {
		all[i] = &records[i]
	}
	return all
}

func byPrefix[T any](all []T, prefix string, id func(T) string) (T, error) {
	var found []T
	for _, v := range all {
		if strings.HasPrefix(id(v), prefix) {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 0:
		return *new(T), fmt.Errorf("%q: %w", prefix, errdefs.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return *new(T), fmt.Errorf("%q is ambiguous: %w", prefix, errdefs.ErrInvalidArgument)
}

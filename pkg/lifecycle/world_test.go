// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/store"
	"github.com/vmlet/vmlet/pkg/vm"
)

const testImage = "registry.test/tiny:1"

// world is a node in memory: fakes around the real use cases and the real store.
type world struct {
	t          *testing.T
	cfg        lifecycle.Config
	hypervisor *lifecycletest.Hypervisor
	guest      *lifecycletest.Guest
	shares     *lifecycletest.Shares
	network    *lifecycletest.Network
	images     *lifecycletest.Images
	disks      *lifecycletest.Disks
	cgroups    *lifecycletest.Cgroups
	consoles   *lifecycletest.Consoles
	streams    *streams

	node paths.Node
	// agent is the node's vmlet-agent for seeds.
	agent []byte
	// dial is how guests without vmlet-agent are reached.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// adjust may change what the use cases run on, from the next start on.
	adjust func(*lifecycle.Deps)
	// logged is what the daemon has logged, in all its lives.
	logged *observer.ObservedLogs
	logger *zap.Logger
	// of the present life of the daemon:
	store *store.Store
	svc   *lifecycle.Service
	die   func()
}

type clock struct{}

func (clock) Now() time.Time { return time.Now() }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t:          t,
		hypervisor: lifecycletest.NewHypervisor(),
		guest:      lifecycletest.NewGuest(),
		shares:     lifecycletest.NewShares(),
		network:    lifecycletest.NewNetwork(),
		images:     lifecycletest.NewImages(),
		disks:      lifecycletest.NewDisks(),
		cgroups:    lifecycletest.NewCgroups(),
		consoles:   lifecycletest.NewConsoles(),
		streams:    newStreams(),
		node:       paths.Node{Root: t.TempDir(), State: t.TempDir()},
	}
	w.hypervisor.UseDisks(w.disks)
	core, logged := observer.New(zap.WarnLevel)
	w.logged, w.logger = logged, zap.New(core)
	w.cfg = lifecycle.Config{
		Paths: w.node, StatsInterval: time.Hour,
		Defaults: lifecycle.Defaults{
			VCPUs: 1, Memory: 256 * vm.MiB, MinimumMemory: 64 * vm.MiB, MachineType: "q35",
			DiskBus: vm.BusVirtio, ErrorPolicy: "enospace", RNG: true, AgentChannel: true,
			AgentTimeout: time.Minute,
		},
	}
	w.images.Add(testImage)
	w.start()
	t.Cleanup(func() { w.die() })
	return w
}

// start begins a life of the daemon on what the world holds.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(log.Into(context.Background(), w.logger))
	w.open(ctx)
	if err := w.svc.Recover(ctx, vm.AccelTCG, nil); err != nil {
		w.t.Fatal(err)
	}
	svc, ran := w.svc, make(chan struct{})
	go func() { defer close(ran); svc.Run(ctx) }()
	w.die = func() {
		cancel()
		<-ran
		w.close()
	}
}

// open makes the daemon without recovering.
func (w *world) open(ctx context.Context) {
	w.t.Helper()
	st, err := store.Open(w.t.Context(), w.node, store.Options{NoSync: true})
	if err != nil {
		w.t.Fatal(err)
	}
	deps := lifecycle.Deps{
		Hypervisor: w.hypervisor, Guest: w.guest, Shares: w.shares, Network: w.network, Images: w.images, Disks: w.disks,
		Cgroups: w.cgroups, Consoles: w.consoles, Streams: w.streams, Screens: w.hypervisor, Clock: clock{},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.dial(ctx, network, address)
		},
		AgentBinary: func() ([]byte, error) {
			if w.agent == nil {
				return nil, errdefs.ErrNotFound
			}
			return w.agent, nil
		},
		Store: lifecycle.Store{Owner: st.Owner(), Sandboxes: st.Sandboxes(), Containers: st.Containers(), Disks: st.Disks()},
	}
	if w.adjust != nil {
		w.adjust(&deps)
	}
	w.store, w.svc = st, lifecycle.New(ctx, w.cfg, deps)
}

func (w *world) close() {
	w.svc.Close()
	w.guest.Hangup()
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
	w.die = func() {}
}

// ending begins a life that may be ended while it recovers.
func (w *world) ending(during func(recovered <-chan error, end func())) {
	w.t.Helper()
	w.die()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.open(ctx)
	defer w.close()
	recovered := make(chan error, 1)
	go func() { recovered <- w.svc.Recover(ctx, vm.AccelTCG, nil) }()
	during(recovered, cancel)
}

// restart ends this life and begins the next.
func (w *world) restart() {
	w.t.Helper()
	w.die()
	w.start()
}

func podSpec(name string) vm.SandboxSpec {
	return vm.SandboxSpec{Name: name, Namespace: "default", UID: "uid-" + name}
}

func containerSpec(attempt uint32) vm.ContainerSpec {
	return vm.ContainerSpec{Name: "vm", Attempt: attempt, ImageRef: testImage}
}

func (w *world) sandbox(name string) string {
	w.t.Helper()
	id, err := w.svc.RunSandbox(w.t.Context(), podSpec(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) created(sandboxID string, attempt uint32) string {
	w.t.Helper()
	id, err := w.svc.CreateContainer(w.t.Context(), sandboxID, containerSpec(attempt))
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// running makes a sandbox with a running container.
func (w *world) running(name string) (sandboxID, containerID string) {
	w.t.Helper()
	sandboxID = w.sandbox(name)
	containerID = w.created(sandboxID, 0)
	if err := w.svc.StartContainer(w.t.Context(), containerID); err != nil {
		w.t.Fatal(err)
	}
	return sandboxID, containerID
}

func (w *world) container(id string) vm.Container {
	w.t.Helper()
	c, err := w.svc.Container(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// exit waits for a container's exit.
func (w *world) exit(id string) vm.Exit {
	w.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if c := w.container(id); c.Status.State == vm.ContainerExited {
			return *c.Status.Exit
		}
		time.Sleep(time.Millisecond) // the exit is another goroutine's; there is no event for clients yet
	}
	w.t.Fatalf("container %s did not exit: %+v", id, w.container(id).Status)
	return vm.Exit{}
}

// nothingLeft proves that removing everything leaves nothing anywhere.
func (w *world) nothingLeft() {
	w.t.Helper()
	ctx := w.t.Context()
	if domains, err := w.hypervisor.Domains(ctx); err != nil || len(domains) != 0 {
		w.t.Errorf("domains left: %v, %v", domains, err)
	}
	if reqs, err := w.network.List(ctx); err != nil || len(reqs) != 0 {
		w.t.Errorf("networks left: %v, %v", reqs, err)
	}
	if files := w.disks.Files(); len(files) != 0 {
		w.t.Errorf("files left: %v", files)
	}
	if groups := w.cgroups.Groups(); len(groups) != 0 {
		w.t.Errorf("cgroups left: %v", groups)
	}
	if ids := w.guest.Connected(); len(ids) != 0 {
		w.t.Errorf("still connected to the agents of %v", ids)
	}
	if ids, err := w.shares.List(ctx); err != nil || len(ids) != 0 {
		w.t.Errorf("shares left: %v, %v", ids, err)
	}
	if all := w.store.Sandboxes().List(); len(all) != 0 {
		w.t.Errorf("sandbox records left: %v", all)
	}
	if all := w.store.Containers().List(); len(all) != 0 {
		w.t.Errorf("container records left: %v", all)
	}
	if all := w.store.Disks().List(); len(all) != 0 {
		w.t.Errorf("records of persistent disks left: %v", all)
	}
}

func mustBe(t *testing.T, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Errorf("error = %v, want class %v", err, class)
	}
}

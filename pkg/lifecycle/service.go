// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/vmlet/vmlet/pkg/keylock"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Config is what the use cases need to know about the node.
type Config struct {
	Paths paths.Node
	// LibvirtCgroups is set where libvirt owns QEMU's cgroups, so that limits go into
	// the domain and the Cgroups port is not used.
	LibvirtCgroups bool
	Defaults       Defaults
	Gates          Gates
	// StatsInterval is the time between two samples of all VMs.
	StatsInterval time.Duration
}

// Defaults are the node's answers where a pod asks for nothing.
type Defaults struct {
	VCPUs int
	// MaxVCPUs is how many CPUs a VM can be given while it runs, 0 for placesWithKVM.
	MaxVCPUs int
	// MemoryHeadroom: VMs of headroomFrom and more can be given that many times the memory that they are made with.
	MemoryHeadroom int64
	Memory         int64 // bytes of guest RAM for a pod without a memory limit
	MachineType    string
	CPUMode        string
	CPUModel       string
	DiskBus        string
	ErrorPolicy    string
	RNG            bool
	Watchdog       vm.Watchdog
	AgentChannel   bool
	MinimumMemory  int64 // bytes of guest RAM below which a VM is refused
	// AgentTimeout is how long a container's command waits for vmlet-agent in its guest.
	AgentTimeout time.Duration
	Video        vm.Video
	// VNC gives machines a VNC server, and lets clients connect to it.
	VNC bool
}

// Deps are the adapters that the use cases run on.
type Deps struct {
	Hypervisor Hypervisor
	Guest      Guest
	Shares     Shares
	Network    Network
	Images     Images
	Disks      Disks
	Cgroups    Cgroups
	Consoles   Consoles
	Streams    ConsoleStreams
	Screens    Screens
	Store      Store
	Clock      Clock
	// Dial connects to an address in a pod's network, for guests without vmlet-agent.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// AgentBinary is vmlet-agent for guests whose image lacks it; NotFound if this node has
	// none.
	AgentBinary func() ([]byte, error)
	// Observe is told of every finished operation, for metrics; nil for nobody.
	Observe func(operation string, took time.Duration, err error)
}

// Service is the set of use cases. It is safe for concurrent use. Recover must have
// returned before the first use case is called.
type Service struct {
	cfg  Config
	deps Deps
	// defaults may be replaced while we run: see SetDefaults.
	defaults atomic.Pointer[Defaults]
	// gates may be replaced while we run: see SetGates.
	gates atomic.Pointer[Gates]
	// accel is set once, by Recover; Status asks for it before that.
	accel atomic.Pointer[vm.Accel]
	// host is what libvirt can do, nil until it has said.
	host atomic.Pointer[hostFacts]

	// locks serialises mutations per sandbox ID. It is never held while waiting for a guest.
	locks keylock.Locks
	// layerLocks serialises per sandbox ID what makes, merges and swaps layers: see layered.
	layerLocks keylock.Locks
	// nicLocks serialises calls for one NIC, by sandbox ID and name, while the guest is waited for as well. Taken before locks.
	nicLocks keylock.Locks
	// resizeLocks serialises per sandbox ID what gives its VM another size, while the guest is waited for as well. Taken before locks.
	resizeLocks keylock.Locks
	// shareLocks serialises by sandbox ID what plugs, mounts and unplugs a share, for which the guest is waited for. Taken
	// after layerLocks, and not with locks.
	shareLocks keylock.Locks
	// flights are the use cases under way, by what they are for.
	flights singleflight.Group
	// work are the goroutines that outlive their callers; Close waits for them.
	work background
	// life ends when the daemon stops: background work hangs on it.
	life context.Context //nolint:containedctx // the service's own life, not a request's
	end  context.CancelFunc

	// imageUse is held for reading while a container comes to refer to an image, and
	// for writing while one is removed: an image cannot vanish between the two. Persistent
	// disks are recorded and forgotten under it too.
	imageUse sync.RWMutex

	// claims is held while a caller's file becomes a disk: no two VMs come to write to one.
	claims sync.Mutex

	stops   stops
	unplugs unplugs
	// memories are those who wait for a guest to take or to give back memory.
	memories   unplugs
	reboots    reboots
	powerOffs  powerOffs
	operations operations
	merges     merges
	stills     stills
	writers    consoleWriters
	resting    resting
	exits      exitWaiters
	hints      hints
	attendants attendants
	events     subscribers
	news       *news
	sample     *sampler
}

// New makes the service. It does nothing yet: see Recover and Run. ctx lends its values
// (the logger), not its end, to what goes on in the background; Close ends that.
func New(ctx context.Context, cfg Config, deps Deps) *Service {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	if deps.Observe == nil {
		deps.Observe = func(string, time.Duration, error) {}
	}
	s := &Service{cfg: cfg, deps: deps, life: life, end: end, sample: newSampler(), news: newNews(newsKept)}
	s.SetDefaults(cfg.Defaults)
	s.SetGates(cfg.Gates)
	s.accel.Store(new(vm.Accel))
	return s
}

// SetDefaults replaces the node's defaults for containers that are created from now on.
func (s *Service) SetDefaults(d Defaults) { s.defaults.Store(&d) }

// Run folds libvirt's events and what the guests' agents do into state and samples the VMs, until
// ctx ends. VMs go on running afterwards.
func (s *Service) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { s.listen(ctx) })
	loops.Go(func() { s.hearReboots(ctx) })
	loops.Go(func() { s.hearAgents(ctx) })
	loops.Go(func() { again(ctx, "what libvirt can do", s.askHost) }) // it may have to probe QEMU first: calls do not wait for it
	loops.Go(func() { s.lookLater(ctx) })                             // libvirtd may have been started just before us
	loops.Go(func() { s.sampleLoop(ctx) })
	loops.Wait()
}

// Close gives up what waits in the background (a stop's grace period goes on after
// the next start) and returns when it has ended, or after closeTimeout. What is called
// later is Unavailable.
func (s *Service) Close() {
	s.end()
	s.work.close(s.life)
}

func (s *Service) now() time.Time { return s.deps.Clock.Now() }

// newID makes a random ID of 128 bits in hex: unique without asking anybody.
func newID() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand never fails on Linux; without it nothing is safe
	}
	return hex.EncodeToString(b[:])
}

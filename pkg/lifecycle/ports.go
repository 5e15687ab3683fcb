// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"io"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The interfaces that the use cases need, and what each promises. All are safe for
// concurrent use. Methods that can block honour ctx. Errors carry errdefs classes:
// NotFound, AlreadyExists, InvalidArgument, FailedPrecondition, Unavailable (try
// again later), DeadlineExceeded (through ctx), anything else is unexpected.
// "Idempotent" means that doing it again, also after a crash in the middle, succeeds
// and leaves the same state. lifecycletest holds a contract suite per interface that
// the fake and the real adapter both pass.

// Hypervisor runs one domain per sandbox, and id is always the sandbox's. A domain that
// does not carry our owner's mark is never touched and never returned.
type Hypervisor interface {
	Snapshotter
	Adopter

	// Ready tells whether libvirt answers now: nil, or Unavailable with the reason, within
	// a second or so.
	Ready(ctx context.Context) error
	// Host tells what libvirt and its QEMU can do for machines whose CPUs are run this way.
	Host(ctx context.Context, accel vm.Accel) (vm.Host, error)
	DiskHotplug
	SizeHotplug
	// Define makes the domain, or replaces the definition of an inactive one. It is
	// FailedPrecondition for an active one. Idempotent.
	Define(ctx context.Context, m vm.Machine) error
	// Start makes QEMU with the guest's CPUs halted, and before that its NVRAM, where a machine that has one finds none. The
	// taps exist in the host's network namespace when it returns. FailedPrecondition if already active.
	Start(ctx context.Context, id string) error
	// Resume lets the CPUs run. Idempotent for a running domain.
	Resume(ctx context.Context, id string) error
	// Pause halts the CPUs. Idempotent for a paused domain; FailedPrecondition for an inactive one.
	Pause(ctx context.Context, id string) error
	// Reset resets the machine as its reset button does, and returns. FailedPrecondition while its CPUs do not run.
	Reset(ctx context.Context, id string) error
	// PID is QEMU's process ID. FailedPrecondition if the domain is not active.
	PID(ctx context.Context, id string) (int, error)
	// HelperPIDs are the processes that serve the guest's share beside QEMU, none for a
	// machine without one: they are to be placed where QEMU is. FailedPrecondition if the
	// domain is not active.
	HelperPIDs(ctx context.Context, id string) ([]int, error)
	// ReplugShare gives the guest's share a new virtiofsd after EventShareLost: the device is
	// taken from the running guest and plugged again, and what was mounted of it in the
	// guest is dead for good. Nothing is done while a virtiofsd runs. FailedPrecondition
	// if the guest does not let go of the device, or has none.
	ReplugShare(ctx context.Context, id string) error
	// UnplugShare takes the device of the share from the running guest, which has unmounted it, until ReplugShare, and
	// returns when what served it has ended, too. FailedPrecondition if the guest does not let go of the device, or the
	// domain is not active or has no share. Idempotent. EventShareLost tells of it.
	UnplugShare(ctx context.Context, id string) error
	// DefineNICs gives the definition of an inactive domain exactly these NICs, and leaves the rest of it alone. One that is
	// active is left alone altogether. ResourceExhausted if the machine has no port for one. Idempotent.
	DefineNICs(ctx context.Context, id string, nics []vm.NIC) error
	// PlugNIC gives the running machine a NIC, without a carrier; its tap is in the host's network namespace when it
	// returns. The definition stays as it is. FailedPrecondition if the domain is not active, ResourceExhausted if the
	// machine has no port for it. Idempotent.
	PlugNIC(ctx context.Context, id string, nic vm.NIC) error
	// UnplugNIC asks the guest to let go of a NIC, again and again, and returns when it has: nil at once for a domain that
	// is not active or has no such NIC. DeadlineExceeded if it has not when ctx ends: the NIC is as it was, though the
	// guest may still hear of it.
	UnplugNIC(ctx context.Context, id string, nic vm.NIC) error
	// HasNIC tells whether the running machine has the NIC; false for a domain that is not active.
	HasNIC(ctx context.Context, id string, nic vm.NIC) (bool, error)
	// SetLink gives the guest the carrier of a NIC, or takes it, as nic.Down says. NotFound if the running machine has no
	// such NIC, FailedPrecondition if the domain is not active. Idempotent.
	SetLink(ctx context.Context, id string, nic vm.NIC) error
	// PowerButton presses the ACPI power button and returns; the guest may ignore it.
	// FailedPrecondition while its CPUs do not run.
	PowerButton(ctx context.Context, id string) error
	// Destroy ends QEMU at once and returns when it is gone. Idempotent, also for an
	// absent domain.
	Destroy(ctx context.Context, id string) error
	// AwaitExit returns when the domain's QEMU has ended, for whatever reason, or with
	// ctx's error. Waiting makes EventStopped come sooner: libvirt looks for the end of a
	// process every 200 ms, the adapter hears of it at once. nil for a domain that is
	// absent or not active.
	AwaitExit(ctx context.Context, id string) error
	// Undefine removes the domain with its managed save, libvirt's log of it and whatever
	// else libvirt keeps for it, but for its NVRAM, which goes with the root disk. FailedPrecondition while active. Idempotent.
	Undefine(ctx context.Context, id string) error
	// Domain returns the domain's state now, without AgentConnected, which takes longer; State is DomainAbsent for an unknown one.
	Domain(ctx context.Context, id string) (vm.Domain, error)
	// Domains lists all domains of our owner.
	Domains(ctx context.Context) ([]vm.Domain, error)
	// Stats samples all active domains of ours in one bulk call.
	Stats(ctx context.Context) ([]vm.DomainStats, error)
	// ConsoleDevice is the path of the terminal that the guest's serial console reads from.
	// FailedPrecondition if the domain is not active.
	ConsoleDevice(ctx context.Context, id string) (string, error)
	// LastShutdown reads from QEMU's log how and when the domain last ended; NotFound
	// if the log says nothing.
	LastShutdown(ctx context.Context, id string) (vm.LastShutdown, error)
	// Events delivers what happens to our domains, in libvirt's order. There is one
	// listener; the channel is never closed and never drops: the adapter queues.
	Events() <-chan vm.Event
}

// Network gives sandboxes their network by CNI.
type Network interface {
	// Ready tells whether a sandbox could be attached now: a valid configuration, its
	// plugins present (and CNI STATUS where the plugins know it). nil or Unavailable
	// with the reason. Answers within a second from what it last saw.
	Ready(ctx context.Context) error
	// Setup makes the netns and runs CNI ADD. From then on the netns drops everything
	// and answers nothing itself. It undoes its own work when it fails; an error
	// wrapping revert.ErrIncomplete says that Teardown is still needed.
	Setup(ctx context.Context, req vm.NetworkRequest) (vm.Network, error)
	// Check runs CNI CHECK and looks whether the netns is still there: NotFound when
	// the netns is gone (host reboot), FailedPrecondition when the plugins object.
	Check(ctx context.Context, n vm.Network) error
	// Present returns the IDs of all sandboxes whose netns is there, without running
	// any plugin: recovery asks it for all sandboxes at once.
	Present(ctx context.Context) (map[string]bool, error)
	// Wire moves the tap of each NIC from the host's netns into the sandbox's and
	// connects it, guest-only addresses enforced. Idempotent. Call it for every new
	// QEMU, before its CPUs run, and for a NIC that was plugged.
	// NICs that n does not name are left alone.
	Wire(ctx context.Context, n vm.Network) error
	// TapDown takes a NIC's tap down while it is in the host's netns: what its guest sends is lost until Wire. One that is not
	// there, such as one that Wire has had, is left alone.
	TapDown(ctx context.Context, nic vm.NIC) error
	// AttachNIC runs CNI ADD once more, for another interface in the sandbox's netns, which stays closed until Wire.
	// NotFound if there is no netns or no network of the name, AlreadyExists if the sandbox has an attachment of the
	// name, FailedPrecondition if the interface was not given the addresses that its spec asks for. It undoes its own work
	// when it fails; an error wrapping revert.ErrIncomplete says that DetachNIC is still needed.
	AttachNIC(ctx context.Context, req vm.NICRequest) (vm.NIC, error)
	// PlanNIC judges whether AttachNIC could attach a NIC to any sandbox on this node, as far as can be told without it: the
	// network and its plugins are there, and can be asked. Errors as of AttachNIC. It changes nothing.
	PlanNIC(ctx context.Context, req vm.NICRequest) error
	// NICConfig is the CNI configuration that a NIC was attached by. NotFound if none was.
	NICConfig(ctx context.Context, sandboxID, name string) ([]byte, error)
	// DetachNIC runs CNI DEL with the request of AttachNIC. Safe for a half-made or absent attachment. Idempotent.
	DetachNIC(ctx context.Context, req vm.NICRequest) error
	// Teardown runs CNI DEL with the request of each ADD, the last one first, and removes the netns. Safe
	// for a half-made or absent network. Idempotent.
	Teardown(ctx context.Context, req vm.NetworkRequest) error
	// Stats reads the counters of the NICs, seen from the guest.
	Stats(ctx context.Context, n vm.Network) ([]vm.NICStats, error)
	// List returns the requests of all sandboxes of ours that hold a netns or a CNI
	// attachment. Nothing is collected by it.
	List(ctx context.Context) ([]vm.NetworkRequest, error)
}

// Images is the store of VM disk images.
type Images interface {
	// Resolve finds an image by ID ("sha256:..."), by unique ID prefix, or by name (tag
	// "latest" if none, aliases applied). NotFound if it is not in the store.
	Resolve(ctx context.Context, ref string) (vm.Image, error)
	List(ctx context.Context) ([]vm.Image, error)
	// Pull fetches an image, or finds that it is up to date, and returns it. Two pulls
	// of one reference share the work. progress may be nil; it is called from one
	// goroutine at a time and must not block.
	Pull(ctx context.Context, ref string, auth vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error)
	// Import stores a disk read from r under a name.
	Import(ctx context.Context, name string, r io.Reader, progress func(vm.PullProgress)) (vm.Image, error)
	// Remove deletes the image that ref names, all its names included. Whether it is in
	// use is the caller's to know. Idempotent.
	Remove(ctx context.Context, ref string) error
	// Usage is what the store holds, cached for a short while.
	Usage(ctx context.Context) (vm.FSUsage, error)
}

// Disks makes and removes the files of sandboxes and of persistent disks.
type Disks interface {
	Layerer
	CheckpointFolders

	DataDisks
	// CreateRoot makes the overlay d.Path on d.Backing with at least d.Size bytes,
	// whole or not at all. An existing file is left alone: it has a guest's data.
	CreateRoot(ctx context.Context, d vm.Disk) error
	// GrowRoot gives a disk of ours that no VM uses, a root disk or another, at least d.Size bytes. One that has as many
	// is left alone: disks never shrink. NotFound if there is no file. Idempotent.
	GrowRoot(ctx context.Context, d vm.Disk) error
	// WriteSeed writes the seed ISO, whole or not at all, readable by QEMU's user
	// and not by others.
	WriteSeed(ctx context.Context, path string, iso []byte) error
	// CreateSpool makes the empty console spool that QEMU may append to. An existing
	// one is left alone.
	CreateSpool(ctx context.Context, path string) error
	// RemoveFile removes one file. Idempotent.
	RemoveFile(ctx context.Context, path string) error
	// RemoveSandbox removes the folder of a sandbox with all in it. Idempotent.
	RemoveSandbox(ctx context.Context, id string) error
	// List returns the IDs of all sandboxes that have a folder.
	List(ctx context.Context) ([]string, error)
	// Usage is what the sandbox's disks take on the host now.
	Usage(ctx context.Context, id string) (vm.FSUsage, error)
	// RemoveDisk removes the folder of the persistent disk with this ID. Idempotent.
	RemoveDisk(ctx context.Context, diskID string) error
	// DiskUsage is what the persistent disk with this ID takes on the host now: nothing if
	// it is not there.
	DiskUsage(ctx context.Context, diskID string) (vm.FSUsage, error)
}

// Cgroups puts QEMU where the pod's resources are counted and limited. Groups are named
// by sandbox ID; parent is the pod's cgroup, "" for a place of our own.
type Cgroups interface {
	// Create makes the sandbox's group with its limits. Idempotent.
	Create(ctx context.Context, id, parent string, res vm.Resources) error
	// Place moves a process with all its threads into the group.
	Place(ctx context.Context, id, parent string, pid int) error
	// Update changes the limits of a group from one to the other, whole or not at all: after
	// an error they are as from says. NotFound if there is no group; FailedPrecondition for
	// a limit that what is in the group exceeds.
	Update(ctx context.Context, id, parent string, from, to vm.Resources) error
	// Usage reads the group's counters; NotFound if there is no group.
	Usage(ctx context.Context, id, parent string) (vm.CgroupUsage, error)
	// Remove kills nothing: it removes the empty group. Idempotent.
	Remove(ctx context.Context, id, parent string) error
}

// Consoles copies what containers print (the output of their commands, or serial consoles)
// from spools into CRI log files: no line lost, none doubled, also over a crash of this
// process.
type Consoles interface {
	// Follow begins or, after a restart, goes on copying. Idempotent.
	Follow(ctx context.Context, c Console) error
	// Reopen opens the log file anew by its path, for log rotation. NotFound if the
	// container is not followed.
	Reopen(ctx context.Context, containerID string) error
	// Finish copies what is left in the spools, ends the last line, closes the log and
	// removes spools and checkpoints; whoever is attached has had all of it. Idempotent.
	Finish(ctx context.Context, c Console) error
}

// Console is where one container's output comes from and goes.
type Console = vm.Console

// Records is a durable collection with a copy in memory. Reads never touch the disk
// and return values that share maps and slices with the store: never write into them.
type Records[T any] interface {
	// Get returns NotFound for an unknown ID.
	Get(id string) (T, error)
	// List returns all records in the order of their creation. The slice is the caller's.
	List() []T
	// All returns what List does without a copy of each record. A change replaces a
	// record and leaves the one at the old address as it was, so an address stands for
	// one version of a record. The slice is the caller's, what it points to is not.
	All() []*T
	// Create stores a new record; AlreadyExists if there is one.
	Create(id string, v T, step string) error
	// Update replaces a record by what change makes of it and returns the new value;
	// change must not block and may be refused by its own error, which Update returns
	// unchanged. NotFound for an unknown ID. step names the change and holds no IDs:
	// failpoints are named after it.
	Update(id string, step string, change func(T) (T, error)) (T, error)
	// Delete removes a record. Idempotent.
	Delete(id string, step string) error
}

// Store is the durable state. All writes are on disk when they return.
type Store struct {
	// Owner is the ID of this store, made once when it was first opened. Domains carry
	// it as the mark of whose they are.
	Owner      string
	Sandboxes  Records[vm.Sandbox]
	Containers Records[vm.Container]
	// Disks are the persistent disks; a record's ID is the name by vm.DiskKey.
	Disks Records[vm.PersistentDisk]
}

// Clock is the time, so that tests own it.
type Clock interface {
	Now() time.Time
}

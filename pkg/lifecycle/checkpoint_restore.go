// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// restoreCheckpointTimeout is how long it may take at most to make a pod of a checkpoint.
const restoreCheckpointTimeout = 15 * time.Minute

// RestorePod makes a sandbox with a container of a checkpoint. The container is Created, and its start has the guest go on
// where it was. Nobody sees either before both are there; after an error nothing is.
//
// AlreadyExists while the VM of the checkpoint lives, or another of the same pod or the same checkpoint; NotFound without
// the checkpoint or its image; FailedPrecondition for a container whose process is another, or that a machine of the
// checkpoint's size cannot be for, and where a network or a disk of the machine is not there; DataLoss for a checkpoint that is
// not as it was written. Like Checkpoint it ends with its caller; there is no VM that it would be an operation of until it is done.
func (s *Service) RestorePod(ctx context.Context, req vm.PodRestore) (out vm.RestoredPod, err error) {
	ask, err := annotations.Parse(req.Sandbox.AllSettings())
	if err != nil {
		return out, fmt.Errorf("restore pod %s/%s: %w", req.Sandbox.Namespace, req.Sandbox.Name, err)
	}
	if !s.work.begin() {
		return out, errClosed
	}
	defer s.work.done()
	ctx, cancel := context.WithTimeout(ctx, restoreCheckpointTimeout)
	defer cancel()
	err = s.observed("pod_restore", func() (err error) {
		out, err = s.restorePod(ctx, req, ask)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("restore pod %s/%s: %w", req.Sandbox.Namespace, req.Sandbox.Name, err)
	}
	return out, nil
}

func (s *Service) restorePod(ctx context.Context, req vm.PodRestore, ask vm.Overrides) (out vm.RestoredPod, err error) {
	from, err := s.deps.Disks.ReadCheckpoint(ctx, req.Dir)
	if err != nil {
		return out, err
	}
	if err := s.mayGiveDevices(ctx, vm.Sandbox{Spec: req.Sandbox}, from); err != nil {
		return out, err
	}
	// Any two, until the next one finds in the records who is there already.
	unlockAll, err := s.locks.Lock(ctx, "restored pods")
	if err != nil {
		return out, err
	}
	onRecord := sync.OnceFunc(unlockAll)
	defer onRecord()
	if err := s.alone(from, req.Sandbox); err != nil {
		return out, err
	}
	sb := vm.Sandbox{
		ID: newID(), Spec: req.Sandbox, CreatedAt: s.sandboxCreatedAt(req.Sandbox),
		Status: vm.SandboxStatus{State: vm.SandboxCreating, Asked: from.Asked},
	}
	c, err := s.restoredContainer(sb, req.Container, from, ask)
	if err != nil {
		return out, err
	}
	unlock, err := s.locks.Lock(ctx, sb.ID)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := s.deps.Store.Sandboxes.Create(sb.ID, sb, "sandbox creating"); err != nil {
		return out, err
	}
	defer func() {
		if err != nil {
			err = s.abandonSandbox(sb.ID, err)
		}
	}()
	if err := s.buildRestored(ctx, sb, c, restoring{from, req.Dir, ask}, onRecord); err != nil {
		return out, err
	}
	return vm.RestoredPod{SandboxID: sb.ID, ContainerID: c.ID}, nil
}

// alone refuses a pod whose VM is there already: it would have the same name, the same addresses, or be the same machine in
// two places.
func (s *Service) alone(from vm.Checkpoint, spec vm.SandboxSpec) error {
	for _, sb := range s.deps.Store.Sandboxes.All() {
		c, live := s.liveContainer(sb.ID)
		var why string
		switch {
		case sb.Spec.Key() == spec.Key():
			why = fmt.Sprintf("is of the same attempt, %d, and %s; remove it or use the next attempt", spec.Attempt, sb.Status.State)
		case sb.Spec.Namespace == spec.Namespace && sb.Spec.Name == spec.Name && !sb.Status.Stopped():
			why = "is of the same pod, and is not stopped"
		case live && sb.ID == from.SandboxID:
			why = "has the VM that the checkpoint is of; stop that first"
		case live && c.Status.Checkpoint != nil && c.Status.Checkpoint.ID == from.ID:
			why = "has a VM of the same checkpoint; stop that first"
		default:
			continue
		}
		return fmt.Errorf("sandbox %s %s: %w", sb.ID, why, errdefs.ErrAlreadyExists)
	}
	return nil
}

// restoredContainer judges what is asked for, without a side effect.
func (s *Service) restoredContainer(sb vm.Sandbox, spec vm.ContainerSpec, from vm.Checkpoint, ask vm.Overrides) (c vm.Container, err error) {
	if err := s.gate(sb, vm.GateSnapshots); err != nil {
		return c, err
	}
	if spec.Name != from.Container.Name {
		return c, fmt.Errorf("the checkpoint holds the container %q, not %q: %w", from.Container.Name, spec.Name, errdefs.ErrInvalidArgument)
	}
	if from.Accel != s.Accel() {
		return c, fmt.Errorf("the memory is of a machine whose CPUs were run by %s, and this node's are by %s: %w", from.Accel, s.Accel(), errdefs.ErrFailedPrecondition)
	}
	if ask.RootDisk == vm.RootDiskPersistent {
		return c, fmt.Errorf("the checkpoint brings its own root disk, and the pod wants a persistent one (annotation %s): %w", annotations.RootDisk, errdefs.ErrFailedPrecondition)
	}
	if firmwareOf(ask) != from.Firmware {
		return c, fmt.Errorf("the memory is of a machine that booted by %s, and the pod's boots by %s (annotation %s): %w",
			cmp.Or(from.Firmware, vm.FirmwareBIOS), cmp.Or(ask.Firmware, vm.FirmwareBIOS), annotations.Firmware, errdefs.ErrFailedPrecondition)
	}
	if err := s.mayHaveSize(sb, spec, from, ask); err != nil {
		return c, err
	}
	if c, err = s.newContainer(sb, spec, ask); err != nil {
		return c, err
	}
	if len(c.Status.Shares) > 0 && !from.Share {
		return c, fmt.Errorf("mount %s takes a virtiofs device, and the checkpointed machine was made for none: %w",
			c.Status.Shares[0].GuestPath, errdefs.ErrFailedPrecondition)
	}
	c.Status.Size, c.Status.Asked = from.Machine, from.Asked
	c.Status.MainStarted = from.MainStarted
	c.Status.Checkpoint = &vm.FromCheckpoint{ID: from.ID, Pending: true, MainID: from.MainID, NICs: from.KnownNICs()}
	return c, nil
}

// restoring is a checkpoint that a pod is made of: where it is, and what the pod's annotations say.
type restoring struct {
	vm.Checkpoint

	dir string
	ask vm.Overrides
}

// buildRestored makes all that the pod is of. The sandbox is Ready, and seen, last. onRecord is called when both records are
// there, before what takes long.
func (s *Service) buildRestored(ctx context.Context, sb vm.Sandbox, c vm.Container, from restoring, onRecord func()) (err error) {
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New

	ask := from.ask
	ask.RootSize = from.DiskSize
	c, disk, err := s.recordContainer(ctx, sb, c, ask)
	if err != nil {
		return err
	}
	onRecord()
	rev.Add("restored pod", func(ctx context.Context) error { return s.undoRestored(ctx, sb.ID) })
	if err := from.SameProcess(c.Spec); err != nil {
		return err
	}
	rev.Add("network setup", func(ctx context.Context) error { return s.deps.Network.Teardown(ctx, networkRequest(sb)) })
	if err := s.attachRestored(ctx, sb, from.Checkpoint, ask); err != nil {
		return err
	}
	if err := s.giveDisks(ctx, sb.ID, from.Checkpoint); err != nil {
		return err
	}
	if sb, err = s.deps.Store.Sandboxes.Get(sb.ID); err != nil {
		return err
	}
	if err := s.fetchRestored(ctx, from, s.machineOf(sb, c, disk.Disk, ask), disk.Disk); err != nil {
		return err
	}
	if err := s.fetchData(ctx, sb, from); err != nil {
		return err
	}
	if err := s.buildContainer(ctx, sb, c, rootDisk{Disk: disk.Disk}, ask); err != nil {
		return err
	}
	if _, err := s.updateSandbox(sb.ID, "pod restored", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		return st.To(vm.SandboxReady)
	}); err != nil {
		return err
	}
	rev.Success()
	return nil
}

// attachRestored gives the sandbox its network, and the NICs that were attached beside it. Teardown takes all of it back.
func (s *Service) attachRestored(ctx context.Context, sb vm.Sandbox, from vm.Checkpoint, ask vm.Overrides) error {
	network, err := s.attachAgain(ctx, sb, from)
	if err != nil {
		return fmt.Errorf("set up its network: %w", err)
	}
	sb.Status.Network = &network
	if sb, err = s.giveNICs(ctx, sb, from); err != nil {
		return fmt.Errorf("attach it once more: %w", err)
	}
	if readdressed(from.KnownNICs(), sb.NICs()) && !s.hasAgentPort(ask) {
		return fmt.Errorf("the network gave other addresses than the guest has, and without vmlet-agent nobody can tell it: %w", errdefs.ErrFailedPrecondition)
	}
	_, err = s.updateSandbox(sb.ID, "sandbox attached", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Network, st.NICs, st.NICsChanged = sb.Status.Network, sb.Status.NICs, sb.Status.NICsChanged
		return st, nil
	})
	return err
}

// loaders are the files of this node's UEFI, as far as libvirt has told.
func (s *Service) loaders() []string {
	if host := s.host.Load(); host != nil {
		return host.Loaders
	}
	return nil
}

// fetchRestored brings disk and memory into the sandbox's folder.
func (s *Service) fetchRestored(ctx context.Context, from restoring, machine vm.Machine, disk vm.Disk) error {
	file, err := from.File(vm.CheckpointDisk)
	if err != nil {
		return err
	}
	if err := s.deps.Disks.FetchDisk(ctx, from.dir, file, disk.Path); err != nil {
		return err
	}
	if err := s.deps.Disks.SetBase(ctx, disk.Path, vm.BackingFile{Path: disk.Backing, Format: disk.BackingFormat}); err != nil {
		return err
	}
	if disk.NVRAM != "" {
		if file, err = from.File(vm.CheckpointNVRAM); err != nil {
			return err
		}
		if err := s.deps.Disks.FetchNVRAM(ctx, from.dir, file, disk.NVRAM); err != nil {
			return err
		}
	}
	if file, err = from.File(vm.CheckpointMemory); err != nil {
		return err
	}
	return s.deps.Disks.FetchMemory(ctx, from.dir, file, s.cfg.Paths.SnapshotMemory(machine.SandboxID, from.ID), func(xml string) (string, error) {
		return s.deps.Hypervisor.Adopt(xml, machine, from.KnownNICs(), s.loaders())
	})
}

// undoRestored takes down what a sandbox that was being made has beside its network.
func (s *Service) undoRestored(ctx context.Context, sandboxID string) error {
	for _, c := range s.containersOf(sandboxID) {
		if err := s.undoCreate(ctx, c); err != nil {
			return err
		}
		if c.Status.Visible() {
			s.tellOf(sandboxID, c.ID, vm.ContainerDeletedEvent)
		}
	}
	return s.deps.Disks.RemoveSandbox(ctx, sandboxID)
}

// attachAgain asks the network for the addresses that the guest has.
func (s *Service) attachAgain(ctx context.Context, sb vm.Sandbox, from vm.Checkpoint) (network vm.Network, err error) {
	ask := networkRequest(sb)
	if len(from.NICs) == 0 {
		return s.deps.Network.Setup(ctx, ask)
	}
	err = askForFormer(ctx, sb.ID, from.NICs[0], func(mac string, ips []string) (err error) {
		ask.MAC, ask.IPs = mac, ips
		network, err = s.deps.Network.Setup(ctx, ask)
		return err
	})
	return network, err
}

// RestoreCheckpoint is RestorePod for who has no pod's configuration at hand: the checkpoint brings its own. Where an attempt
// of the pod is still on record, it is the next one.
func (s *Service) RestoreCheckpoint(ctx context.Context, dir string) (vm.Checkpoint, vm.RestoredPod, error) {
	from, err := s.deps.Disks.ReadCheckpoint(ctx, dir)
	if err != nil {
		return from, vm.RestoredPod{}, fmt.Errorf("restore: %w", err)
	}
	req := vm.PodRestore{Dir: dir, Sandbox: from.Sandbox, Container: from.Container}
	for _, sb := range s.deps.Store.Sandboxes.All() {
		if now := sb.Spec; now.Namespace == from.Sandbox.Namespace && now.Name == from.Sandbox.Name && now.UID == from.Sandbox.UID {
			req.Sandbox.Attempt = max(req.Sandbox.Attempt, now.Attempt+1)
		}
	}
	// By its digest: the name may be another image's by now.
	if req.Container.UserSpecifiedImage == "" {
		req.Container.UserSpecifiedImage = req.Container.ImageRef
	}
	req.Container.ImageRef = req.Container.ImageID
	pod, err := s.RestorePod(ctx, req)
	return from, pod, err
}

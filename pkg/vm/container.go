// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
)

// ContainerState is where a container, which is one boot of the sandbox's VM, stands.
//
//	CreateContainer
//	     |
//	     v      undone
//	 Creating ---------> (no record)
//	     |
//	     v
//	  Created --- superseded by a newer attempt, sandbox stopped ---.
//	     |  \                                                      |
//	     |   `-- RemoveContainer --> Removing                      |
//	     | StartContainer                                          |
//	     v                                                         |
//	  Starting --- failed -----------------------------------.     |
//	     |                                                   |     |
//	     v                                                   v     v
//	  Running --- poweroff, panic, kill, OOM, stop -----> Exited
//	                                                         |
//	                                                         | RemoveContainer
//	                                                         v
//	                                                     Removing --> (no record)
//
// A stop in progress is not a state: the guest runs until it does not. It is the
// StopIntent of a Running container. Neither is a reboot, nor a pause, nor a poweroff that holds the container (see
// PowerOff): the container runs on.
type ContainerState string

// The states of a container. CRI's view: Created and Starting are CREATED, Running is
// RUNNING, Exited and Removing are EXITED; Creating is not visible.
const (
	ContainerCreating ContainerState = "Creating"
	ContainerCreated  ContainerState = "Created"
	ContainerStarting ContainerState = "Starting"
	ContainerRunning  ContainerState = "Running"
	ContainerExited   ContainerState = "Exited"
	ContainerRemoving ContainerState = "Removing"
)

var containerMoves = map[ContainerState][]ContainerState{
	ContainerCreating: {ContainerCreated},
	ContainerCreated:  {ContainerStarting, ContainerExited, ContainerRemoving},
	ContainerStarting: {ContainerRunning, ContainerExited},
	ContainerRunning:  {ContainerExited},
	ContainerExited:   {ContainerRemoving},
	ContainerRemoving: {},
}

// Container is the record of one CRI container: one boot of the sandbox's VM.
type Container struct {
	// ID is random and unique per attempt: 32 lower-case hex digits.
	ID        string          `json:"id"`
	SandboxID string          `json:"sandboxID"`
	Spec      ContainerSpec   `json:"spec"`
	CreatedAt time.Time       `json:"createdAt"`
	Status    ContainerStatus `json:"status"`
}

// ContainerSpec is what the caller of CreateContainer asked for. It never changes.
type ContainerSpec struct {
	Name    string `json:"name"`
	Attempt uint32 `json:"attempt"`
	// ImageRef is the image as the caller named it; ImageID is what it resolved to.
	ImageRef string `json:"imageRef"`
	// UserSpecifiedImage is the name in the pod's manifest (CRI ImageSpec).
	UserSpecifiedImage string `json:"userSpecifiedImage,omitempty"`
	ImageID            string `json:"imageID"`

	// Command and Args together are the guest's main process. Without both the VM just boots.
	Command    []string `json:"command,omitempty"`
	Args       []string `json:"args,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Env        []EnvVar `json:"env,omitempty"`
	Mounts     []Mount  `json:"mounts,omitempty"`
	// LogPath is the absolute host path of the container's log, "" for none.
	LogPath     string            `json:"logPath,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Resources   *Resources        `json:"resources,omitempty"`
	TTY         bool              `json:"tty,omitempty"`
	Stdin       bool              `json:"stdin,omitempty"`
	StdinOnce   bool              `json:"stdinOnce,omitempty"`
	// Security is what the command may do; nil is root with everything. Where there is no
	// command, only users and groups that it names count, for exec.
	Security *Security `json:"security,omitempty"`
	// StopSignal is what a stop sends the command, "" for SIGTERM.
	StopSignal string `json:"stopSignal,omitempty"`
}

// Main is the container's command with its arguments, nil for a VM that just boots. An
// image of a VM has no entry point that arguments alone could be for: they are the command.
func (s ContainerSpec) Main() []string {
	return append(slices.Clip(s.Command), s.Args...)
}

// HasMain reports whether the guest has a main process, whose end is the container's.
func (s ContainerSpec) HasMain() bool { return len(s.Command)+len(s.Args) > 0 }

// Key names the attempt within its sandbox; a retried CreateContainer has the same.
func (s ContainerSpec) Key(sandboxID string) string {
	return fmt.Sprintf("%s/%s/%d", sandboxID, s.Name, s.Attempt)
}

// EnvVar is one environment variable. Its value is secret: it never reaches a log.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Mount is a host path that the caller wants in the guest.
type Mount struct {
	ContainerPath string `json:"containerPath"`
	HostPath      string `json:"hostPath"`
	ReadOnly      bool   `json:"readOnly,omitempty"`
	// RecursiveReadOnly: what is mounted below HostPath is read-only as well.
	RecursiveReadOnly bool `json:"recursiveReadOnly,omitempty"`
	// HostToGuest asks that what is mounted below HostPath later shows in the guest too
	// (CRI's PROPAGATION_HOST_TO_CONTAINER).
	HostToGuest bool `json:"hostToGuest,omitempty"`
	// SELinuxRelabel asks for HostPath to be relabelled for the guest's use.
	SELinuxRelabel bool `json:"selinuxRelabel,omitempty"`
}

// ContainerStatus is the part of a Container that changes.
type ContainerStatus struct {
	State     ContainerState `json:"state"`
	StartedAt time.Time      `json:"startedAt,omitzero"`
	// BootedAt is when the machine was last booted by another QEMU than the one of StartedAt, zero if it never was.
	BootedAt time.Time `json:"bootedAt,omitzero"`
	// Stop is set from the moment somebody asked the guest to stop.
	Stop *StopIntent `json:"stop,omitempty"`
	// Reboot is set while the guest is to be booted anew.
	Reboot *RebootIntent `json:"reboot,omitempty"`
	// PowerOff is set from the moment somebody asked for the VM to be powered off, and while it is off.
	PowerOff *PowerOff `json:"powerOff,omitempty"`
	// Restore is set while the VM is put back to a snapshot.
	Restore *RestoreIntent `json:"restore,omitempty"`
	// Rejoin is set while a machine that goes on in the memory of a snapshot has NICs that were detached since.
	Rejoin bool `json:"rejoin,omitempty"`
	// Checkpoint is set for a container that was made from a checkpoint.
	Checkpoint *FromCheckpoint `json:"checkpoint,omitempty"`
	// Paused is set while the guest's CPUs are halted because somebody asked for that.
	Paused bool `json:"paused,omitempty"`
	// MainStarted is set once the container's command was started, in whichever boot.
	MainStarted bool `json:"mainStarted,omitempty"`
	// MainExit is how the container's command ended. The guest still runs then: the VM is
	// ended next, and Exit is made of it.
	MainExit *MainExit `json:"mainExit,omitempty"`
	// Exit is set once the container is Exited.
	Exit *Exit `json:"exit,omitempty"`
	// Size is how big the machine is: as it was made, or as it was made since.
	Size MachineSize `json:"size,omitzero"`
	// Resources are the limits that took the place of the spec's, nil if none did.
	Resources *Resources `json:"resources,omitempty"`
	// Asked is what the VM's owner has asked for beside them.
	Asked SizeAsk `json:"asked,omitzero"`
	// Resize is set while the machine is given another size.
	Resize *ResizeIntent `json:"resize,omitempty"`
	// Files and Shares are the spec's mounts, judged on the host when the container was
	// created: small files are copied into the guest, the rest is shared with it.
	Files  []FileTree   `json:"files,omitempty"`
	Shares []ShareMount `json:"shares,omitempty"`
}

// Present is the spec with the limits that the container has now.
func (c Container) Present() ContainerSpec {
	spec := c.Spec
	if c.Status.Resources != nil {
		spec.Resources = c.Status.Resources
	}
	return spec
}

// Held is Present with what holds beside the limits: CPUs that the guest has and is not to use, and where QEMU may run.
func (c Container) Held() ContainerSpec {
	spec, asked := c.Present(), c.Status.Asked
	if asked == (SizeAsk{}) {
		return spec
	}
	var res Resources
	if spec.Resources != nil {
		res = *spec.Resources
	}
	if asked.VCPUs > 0 && asked.VCPUs < c.Status.Size.VCPUs {
		res = res.WithCPUs(asked.VCPUs)
	}
	res = res.Merge(Resources{CpusetCPUs: asked.CpusetCPUs, CpusetMems: asked.CpusetMems, CPUShares: asked.CPUShares})
	spec.Resources = &res
	return spec
}

// StopIntent records that the guest was asked to stop, so that a restarted daemon
// goes on waiting for it and keeps the promised deadline.
type StopIntent struct {
	RequestedAt time.Time `json:"requestedAt"`
	// Deadline is when the guest is destroyed if it still runs.
	Deadline time.Time `json:"deadline"`
	// Forced is set before the domain is destroyed by us.
	Forced bool `json:"forced,omitempty"`
}

// To returns the status moved to another state, or FailedPrecondition if the
// diagram of ContainerState has no such arrow.
func (s ContainerStatus) To(next ContainerState) (ContainerStatus, error) {
	if s.State == next {
		return s, nil
	}
	if slices.Contains(containerMoves[s.State], next) {
		s.State = next
		return s, nil
	}
	return s, fmt.Errorf("container is %s and cannot become %s: %w", s.State, next, errdefs.ErrFailedPrecondition)
}

// Booted is when the boot began that the container is in now; at the earliest, if the guest reboots by itself.
func (c Container) Booted() time.Time {
	if c.Status.BootedAt.IsZero() {
		return c.CreatedAt
	}
	return c.Status.BootedAt
}

// Live reports whether the container holds the VM of its sandbox: no other container
// may be created in the sandbox while one is live.
func (s ContainerStatus) Live() bool {
	switch s.State {
	case ContainerCreating, ContainerCreated, ContainerStarting, ContainerRunning:
		return true
	case ContainerExited, ContainerRemoving:
		return false
	}
	return false
}

// Visible reports whether clients may see the container.
func (s ContainerStatus) Visible() bool { return s.State != ContainerCreating }

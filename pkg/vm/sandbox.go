// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"
)

// SandboxState is where a sandbox stands.
//
//	 RunPodSandbox
//	      |
//	      v        undone
//	  Creating ------------> (no record)
//	   |    \
//	   |     `-- undo failed --> Broken
//	   v                           |
//	 Ready -- network lost --.     |
//	   |                     |     |
//	   | StopPodSandbox      |     | StopPodSandbox, recovery
//	   v                     |     |
//	Stopping <---------------|-----'
//	   |  ^                  |
//	   |  | StopPodSandbox, if it still holds something
//	   v  |                  v
//	NotReady <---------------'
//	   |
//	   | RemovePodSandbox
//	   v
//	Removing ------------> (no record)
//
// Creating may also become Stopping, though no use case does so now.
type SandboxState string

// The states of a sandbox. CRI knows two of them: READY is Ready, everything else
// that is visible is NOTREADY; Creating is not visible at all.
const (
	// SandboxCreating: the intent is recorded, network set-up is under way.
	SandboxCreating SandboxState = "Creating"
	// SandboxReady: the network stands; containers may be created.
	SandboxReady SandboxState = "Ready"
	// SandboxBroken: creation failed and so did part of its undo; what is left is
	// taken down by StopPodSandbox, RemovePodSandbox or recovery.
	SandboxBroken SandboxState = "Broken"
	// SandboxStopping: containers and network are being taken down.
	SandboxStopping SandboxState = "Stopping"
	// SandboxNotReady: nothing runs and no network is held; disks are still there.
	SandboxNotReady SandboxState = "NotReady"
	// SandboxRemoving: disks and the record are being removed.
	SandboxRemoving SandboxState = "Removing"
)

// sandboxMoves lists, per state, the states that may follow it. A state may always
// follow itself: a retry after a crash repeats its step.
var sandboxMoves = map[SandboxState][]SandboxState{
	SandboxCreating: {SandboxReady, SandboxBroken, SandboxStopping},
	SandboxReady:    {SandboxStopping, SandboxNotReady},
	SandboxBroken:   {SandboxStopping},
	SandboxStopping: {SandboxNotReady},
	SandboxNotReady: {SandboxStopping, SandboxRemoving},
	SandboxRemoving: {},
}

// Sandbox is the record of one CRI pod sandbox: identity, network, domain and disks.
type Sandbox struct {
	// ID is random and unique per attempt: 32 lower-case hex digits. The domain's
	// UUID (see UUID) is the same 128 bits.
	ID        string        `json:"id"`
	Spec      SandboxSpec   `json:"spec"`
	CreatedAt time.Time     `json:"createdAt"`
	Status    SandboxStatus `json:"status"`
}

// SandboxSpec is what the caller of RunPodSandbox asked for. It never changes.
type SandboxSpec struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	Attempt   uint32 `json:"attempt"`
	// Tenant is who has the namespace, where namespaces of several tenants may be called the same; else "".
	Tenant string `json:"tenant,omitempty"`

	Hostname string    `json:"hostname,omitempty"`
	DNS      DNSConfig `json:"dns"`
	// LogDirectory is the host folder that container log paths are relative to.
	LogDirectory string            `json:"logDirectory,omitempty"`
	PortMappings []PortMapping     `json:"portMappings,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	// BinaryAnnotations are those whose values are no text. They are told only to who takes bytes.
	BinaryAnnotations map[string][]byte `json:"binaryAnnotations,omitempty"`
	// Settings are what is asked of the VM beside the pod's annotations, by the keys of package annotations. They are told
	// to nobody. Secret.
	Settings map[string]string `json:"settings,omitempty"`
	// CNIArgs are told to CNI's plugins in CNI_ARGS, beside who the pod is; IPs are asked of the network, which may give others.
	CNIArgs map[string]string `json:"cniArgs,omitempty"`
	IPs     []string          `json:"ips,omitempty"`
	// RuntimeHandler is the RuntimeClass handler that was asked for, "" for the default.
	RuntimeHandler string            `json:"runtimeHandler,omitempty"`
	Sysctls        map[string]string `json:"sysctls,omitempty"`
	// Namespaces are the modes that the caller asked for, kept to be told back.
	Namespaces Namespaces `json:"namespaces,omitzero"`
	// CgroupParent is the pod's cgroup as the caller names it: a path for the
	// cgroupfs driver, a slice name for systemd; "" when the caller manages none.
	CgroupParent string `json:"cgroupParent,omitempty"`
	// Resources are the pod's limits summed over its containers, nil if not sent.
	Resources *Resources `json:"resources,omitempty"`
	// Overhead is what the RuntimeClass grants on top of them for QEMU itself.
	Overhead *Resources `json:"overhead,omitempty"`
}

// AllSettings are what is asked of the VM: Settings, and the annotations, of which one counts where both say something.
func (s SandboxSpec) AllSettings() map[string]string {
	if len(s.Settings) == 0 {
		return s.Annotations
	}
	all := maps.Clone(s.Settings)
	maps.Copy(all, s.Annotations)
	return all
}

// Pod is what people call the pod by: NAMESPACE/NAME, with the tenant before it where there is one.
func (s SandboxSpec) Pod() string {
	if s.Tenant != "" {
		return s.Tenant + "/" + s.Namespace + "/" + s.Name
	}
	return s.Namespace + "/" + s.Name
}

// Key names the attempt that a RunPodSandbox is for. A retry of the same call has
// the same key, so it finds the first one's work instead of doing it again.
func (s SandboxSpec) Key() string {
	return fmt.Sprintf("%s/%s/%d", s.Pod(), s.UID, s.Attempt)
}

// SandboxStatus is the part of a Sandbox that changes.
type SandboxStatus struct {
	State SandboxState `json:"state"`
	// Message says why a sandbox is Broken, or NotReady without having been stopped.
	Message string `json:"message,omitempty"`
	// Network is what CNI gave; nil before ADD and after DEL.
	Network *Network `json:"network,omitempty"`
	// Resources and Overhead took the place of the spec's, where they are not nil.
	Resources *Resources `json:"resources,omitempty"`
	Overhead  *Resources `json:"overhead,omitempty"`
	// Asked is what the VM's owner has asked for by Resize, for this machine of the sandbox and those after it.
	Asked SizeAsk `json:"asked,omitzero"`
	// DiskTree has the disks that belong to the sandbox, and callers' files that are attached to it. Root disks outlive containers,
	// except those that are of one alone. Persistent disks are not among them: they have trees of their own.
	DiskTree
	// NICs are those that were attached beside the network's own, oldest first.
	NICs []AttachedNIC `json:"nics,omitempty"`
	// NICsChanged is set once NICs were attached, detached or unlinked: from then on each machine's definition and seed
	// are brought in line before it boots.
	NICsChanged bool `json:"nicsChanged,omitempty"`
	// Operations are those under way and the last that have ended, oldest first.
	Operations []Operation `json:"operations,omitempty"`
}

// Present is the spec with the limits that the pod has now.
func (s Sandbox) Present() SandboxSpec {
	spec := s.Spec
	if s.Status.Resources != nil {
		spec.Resources = s.Status.Resources
	}
	if s.Status.Overhead != nil {
		spec.Overhead = s.Status.Overhead
	}
	return spec
}

// DNSConfig is the resolver configuration of the pod (CRI DNSConfig).
type DNSConfig struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// PortMapping asks for a port of the host to reach a port of the guest.
type PortMapping struct {
	Protocol      string `json:"protocol"` // "tcp", "udp" or "sctp"
	ContainerPort int32  `json:"containerPort"`
	HostPort      int32  `json:"hostPort"`
	HostIP        string `json:"hostIP,omitempty"`
}

// Namespaces are modes of Linux namespaces. A VM has namespaces of its own, whichever of
// these was asked for; nothing acts on them.
type Namespaces struct {
	Network NamespaceMode `json:"network,omitempty"`
	PID     NamespaceMode `json:"pid,omitempty"`
	IPC     NamespaceMode `json:"ipc,omitempty"`
	// User is nil if the caller did not say.
	User *NamespaceMode `json:"user,omitempty"`
}

// NamespaceMode says what shares a namespace (CRI NamespaceMode).
type NamespaceMode string

// Namespace modes. The zero value is the pod.
const (
	NamespacePod       NamespaceMode = ""
	NamespaceContainer NamespaceMode = "Container"
	NamespaceNode      NamespaceMode = "Node"
)

// UUID is the domain's UUID, which is also the SMBIOS UUID the guest sees. It is
// stable for the life of the sandbox: a restarted container is the same machine.
func (s Sandbox) UUID() string { return UUIDFromID(s.ID) }

// UUIDFromID writes a sandbox ID in the form of a UUID.
func UUIDFromID(id string) string {
	if len(id) != 32 {
		return id
	}
	return id[0:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:32]
}

// DomainName is the libvirt name of the sandbox's domain. It is short, since QEMU's
// monitor socket path, which libvirt builds from it, is limited to 107 bytes.
func (s Sandbox) DomainName() string { return DomainName(s.ID) }

// DomainName is the libvirt name of the domain of the sandbox with this ID.
func DomainName(id string) string { return "vmlet-" + id[:min(len(id), 12)] }

// To returns the status moved to another state, or FailedPrecondition if the
// diagram of SandboxState has no such arrow.
func (s SandboxStatus) To(next SandboxState) (SandboxStatus, error) {
	if s.State == next {
		return s, nil
	}
	if slices.Contains(sandboxMoves[s.State], next) {
		s.State = next
		return s, nil
	}
	return s, fmt.Errorf("sandbox is %s and cannot become %s: %w", s.State, next, errdefs.ErrFailedPrecondition)
}

// Stopped reports whether nothing of the sandbox runs or holds a network any more, and
// nothing will.
func (s SandboxStatus) Stopped() bool {
	return s.State == SandboxRemoving || s.State == SandboxNotReady && s.Network == nil
}

// Visible reports whether clients may see the sandbox: not while it is being created,
// since its ID has not been returned to anyone yet.
func (s SandboxStatus) Visible() bool { return s.State != SandboxCreating }

// SPDX-License-Identifier: Apache-2.0

package vm

// Accel is how the guest's CPUs are run.
type Accel string

// Accelerators.
const (
	AccelKVM Accel = "kvm"
	AccelTCG Accel = "tcg"
)

// Machine is everything a domain is made of. It is derived from a sandbox, one of its
// containers and the node's defaults; libvirt's XML is derived from it alone.
type Machine struct {
	SandboxID string
	UUID      string
	// Name is libvirt's; Title and Description are for people (virsh list --title).
	Name        string
	Title       string
	Description string
	// Owner is the ID of the vmlet whose store has the record: the mark that garbage
	// collection goes by.
	Owner string

	Accel       Accel
	MachineType string // "q35" or a versioned name
	CPU         MachineCPU
	// Memory is the guest's RAM in bytes.
	Memory int64
	// MaxMemory is how much it can be given while it runs, and BootMemory what it boots with; 0 for a machine without a
	// device for that.
	MaxMemory, BootMemory int64

	// NVRAM is the file with what UEFI keeps, "" for a machine that boots by BIOS. libvirt makes one that is not there.
	NVRAM string

	Disks []MachineDisk
	NICs  []NIC
	// ConsoleSpool is the file that the serial console's output is appended to.
	ConsoleSpool string
	// AgentChannel adds the port that qemu-guest-agent listens on.
	AgentChannel bool
	// AgentSocket is the unix socket that QEMU makes for vmlet-agent's port, "" for none.
	AgentSocket string
	// OutputSpool is the file that the output of the container's command is appended to,
	// "" for none.
	OutputSpool string
	// Share is the host folder that the guest sees by virtiofs, "" for none.
	Share string
	RNG   bool
	Video Video
	// VNC adds a VNC server that listens nowhere: clients are handed to it.
	VNC      bool
	Watchdog Watchdog
	// Cputune is set where libvirt's own cgroups are in use; nil where a pod's cgroup is.
	Cputune *Resources
}

// MachineCPU are the guest's CPUs.
type MachineCPU struct {
	Count int
	// Max is how many it can be given while it runs, 0 for no more than Count.
	Max int
	// Mode is libvirt's: "host-passthrough", "host-model", "maximum", or "" for the
	// machine's default; Model names a CPU model when Mode is "custom".
	Mode  string
	Model string
}

// Watchdog is the guest's watchdog device; an empty Model is none.
type Watchdog struct {
	Model  string // "i6300esb", "itco"
	Action string // "reset", "poweroff", "pause", "none"
}

// Disk buses.
const (
	BusVirtio = "virtio"
	BusSCSI   = "scsi"
)

// MachineDisk is one block device of the machine.
type MachineDisk struct {
	Path   string
	Format DiskFormat
	// Backing is the chain below Path, nearest first. It is spelled out in the XML so
	// that libvirt neither probes nor relabels shared base images.
	Backing  []BackingFile
	Bus      string
	ReadOnly bool
	// Boot marks the disk that the firmware boots from.
	Boot bool
	// ErrorPolicy is libvirt's error_policy: "stop", "report", "enospace", "ignore".
	ErrorPolicy string
	// Serial is what the guest sees as the disk's serial number, at most 20 characters.
	Serial string
	// Target is libvirt's name for the device, such as "vdc"; "" for the next one on its bus.
	Target string
	// Block is set where Path is a block device.
	Block bool
	// Foreign is set for what is not ours: libvirt leaves its owner alone.
	Foreign bool
}

// BackingFile is one immutable file under a disk.
type BackingFile struct {
	Path   string
	Format DiskFormat
}

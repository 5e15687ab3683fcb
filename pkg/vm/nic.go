// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"net/netip"
	"time"
)

// MaxNICs is how many NICs a VM has at most, its first one included. The machine's PCIe ports, of which other devices take
// some, may end before.
const MaxNICs = 32

// PrimaryNIC is the name of a VM's first NIC, which its pod's network is. Kubernetes says that it is eth0.
const PrimaryNIC = "eth0"

// NICSpec is what the caller of AttachNIC asks for. Name tells one NIC of a VM from the others: it is the name of the
// interface to CNI, in the sandbox's netns and in the guest.
type NICSpec struct {
	Name string `json:"name"`
	// Network is the name of one of the node's CNI networks; "" for the node's default one, unless there is a
	// configuration in its place. That may hold secrets and is not on record: ConfigDigest, its SHA-256 in hex, stands for it.
	Network      string `json:"network,omitempty"`
	ConfigDigest string `json:"configDigest,omitempty"`
	// MAC and IPs are the addresses that CNI is to give, empty for whichever it gives. An address is with or without
	// the length of its network.
	MAC string   `json:"mac,omitempty"`
	IPs []string `json:"ips,omitempty"`
	// PortID, Subnet, VPC and Tag are for plugins that know them.
	PortID string `json:"portID,omitempty"`
	Subnet string `json:"subnet,omitempty"`
	VPC    string `json:"vpc,omitempty"`
	Tag    string `json:"tag,omitempty"`
	// Args are told to the plugins as they are, beside these.
	Args map[string]string `json:"args,omitempty"`
}

// NICState is where an attached NIC stands.
//
//	AttachNIC
//	    |
//	    v         undone
//	Attaching ------------> Detaching ---> (no record)
//	    |                    ^     |
//	    v     DetachNIC      |     | the guest does not let go
//	Attached ----------------'     |
//	    ^--------------------------'
type NICState string

// The states of a NIC.
const (
	// NICAttaching: CNI is asked for it, then the machine gets it.
	NICAttaching NICState = "Attaching"
	// NICAttached: it is in the machine, if there is one, and in each that is made.
	NICAttached NICState = "Attached"
	// NICDetaching: the guest is asked to let go of it, then CNI.
	NICDetaching NICState = "Detaching"
)

// AttachedNIC is a NIC that a VM was given beside its first one. It belongs to the sandbox.
type AttachedNIC struct {
	Spec  NICSpec  `json:"spec"`
	State NICState `json:"state"`
	// NIC is the interface, as CNI gave it; nil before.
	NIC *NIC `json:"nic,omitempty"`
	// Number is that of its tap, from 1.
	Number int `json:"number"`
	// Undo is set on one that is Detaching because its attaching failed: it does not become Attached again.
	Undo bool `json:"undo,omitempty"`
	// Deadline is until when the guest is waited for while it is Detaching.
	Deadline time.Time `json:"deadline,omitzero"`
	// Unplugged: the guest has let go of the device, later than it was waited for. The next machine has it again.
	Unplugged  bool      `json:"unplugged,omitempty"`
	AttachedAt time.Time `json:"attachedAt,omitzero"`
}

// NICRequest is what CNI needs to know to attach a sandbox once more. As with NetworkRequest the DEL says what the ADD said.
type NICRequest struct {
	Sandbox NetworkRequest `json:"sandbox"`
	Spec    NICSpec        `json:"spec"`
	// Config is the CNI configuration, a list or a single one, that Spec.ConfigDigest is of.
	Config []byte `json:"-"`
	// Number is that of the tap.
	Number int `json:"number"`
	// MAC and IPs are asked of the network as well, where Spec leaves them open, and it may give others. IPs are as in NICSpec.
	MAC string   `json:"mac,omitempty"`
	IPs []string `json:"ips,omitempty"`
}

// Wanted is all that the network is asked for, insisted upon or not.
func (r NICRequest) Wanted() NICSpec {
	spec := r.Spec
	if spec.MAC == "" {
		spec.MAC = r.MAC
	}
	if len(spec.IPs) == 0 {
		spec.IPs = r.IPs
	}
	return spec
}

// NICView is a NIC as it is told to clients.
type NICView struct {
	NIC
	Spec  NICSpec
	State NICState
	// Plugged: the running machine has the device.
	Plugged    bool
	Primary    bool
	AttachedAt time.Time
}

// NICGuest says what became of a NIC in the guest.
type NICGuest string

// What may become of a NIC in the guest.
const (
	// NICGuestConfigured: the agent has given the interface its name and addresses.
	NICGuestConfigured NICGuest = "configured"
	// NICGuestNoAgent: no vmlet-agent answers that could. One that answers later does it then.
	NICGuestNoAgent NICGuest = "no agent"
	// NICGuestFailed: the agent could not.
	NICGuestFailed NICGuest = "failed"
	// NICGuestNotRunning: no VM runs; the next boot has it.
	NICGuestNotRunning NICGuest = "not running"
)

// NICAttachment is what AttachNIC did.
type NICAttachment struct {
	NIC   NICView
	Guest NICGuest
	// Message says why the guest has not configured it.
	Message string
}

// InMachine reports whether a machine that is made now has the NIC.
func (n AttachedNIC) InMachine() bool { return n.State == NICAttached && n.NIC != nil }

// NICs are the interfaces of a machine that is made now, the pod's first. nil for a sandbox without a network.
func (s Sandbox) NICs() []NIC {
	if s.Status.Network == nil {
		return nil
	}
	nics := append([]NIC(nil), s.Status.Network.NICs...)
	for _, n := range s.Status.NICs {
		if n.InMachine() {
			nics = append(nics, *n.NIC)
		}
	}
	return nics
}

// Wiring is the sandbox's network with all NICs that its machine has.
func (s Sandbox) Wiring() Network {
	if s.Status.Network == nil {
		return Network{}
	}
	n := *s.Status.Network
	n.NICs = s.NICs()
	return n
}

// AttachedNIC finds an attached NIC by its name.
func (s SandboxStatus) AttachedNIC(name string) (AttachedNIC, bool) {
	for _, n := range s.NICs {
		if n.Spec.Name == name {
			return n, true
		}
	}
	return AttachedNIC{}, false
}

// WithNIC returns the status with one NIC put in the place of the one of its name, or added.
func (s SandboxStatus) WithNIC(n AttachedNIC) SandboxStatus {
	nics := append([]AttachedNIC(nil), s.NICs...)
	for i := range nics {
		if nics[i].Spec.Name == n.Spec.Name {
			nics[i] = n
			s.NICs = nics
			return s
		}
	}
	nics = append(nics, n)
	s.NICs = nics
	return s
}

// WithoutNIC returns the status without the NIC of a name.
func (s SandboxStatus) WithoutNIC(name string) SandboxStatus {
	var nics []AttachedNIC
	for _, n := range s.NICs {
		if n.Spec.Name != name {
			nics = append(nics, n)
		}
	}
	s.NICs = nics
	return s
}

// AddrOf reads an address that may be written with the length of its network.
func AddrOf(text string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr(), nil
	}
	return netip.ParseAddr(text)
}

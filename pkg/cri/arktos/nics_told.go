// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// ofPod are the NICs that the node agent is told of: those that the pod's spec names, and those that were attached by this API.
// One that it does not know it would have detached.
func ofPod(sb vm.Sandbox) (told []vm.AttachedNIC) {
	if sb.Status.Network == nil {
		return nil
	}
	for _, given := range sb.Status.Network.NICs {
		if has, _ := ofNetwork(sb, given.Name); has.Spec.Name != "" {
			told = append(told, has)
		}
	}
	for _, has := range sb.Status.NICs {
		if _, ours := has.Spec.Args[argNICs]; !ours {
			continue
		}
		told = append(told, has)
	}
	return told
}

// ofNetwork finds an interface that CNI's ADD has given the pod. Its spec is what the pod's says, empty where that does not name it.
func ofNetwork(sb vm.Sandbox, name string) (vm.AttachedNIC, bool) {
	if sb.Status.Network == nil {
		return vm.AttachedNIC{}, false
	}
	for _, has := range sb.Status.Network.NICs {
		if has.Name == name {
			return vm.AttachedNIC{Spec: specOf(sb, name), State: vm.NICAttached, NIC: &has}, true
		}
	}
	return vm.AttachedNIC{}, false
}

// specOf is what the pod's spec says of a NIC, empty where it names none of the name. A pod of runtime.v1 may have an annotation
// that is called NICs and says something else: it names none.
func specOf(sb vm.Sandbox, name string) vm.NICSpec {
	nics, err := nicsOf(map[string][]byte{annotationNICs: []byte(sb.Spec.Annotations[annotationNICs])})
	if err != nil {
		return vm.NICSpec{}
	}
	for _, n := range nics {
		if n.Name == name {
			return n.spec(sb)
		}
	}
	return vm.NICSpec{}
}

// nicSpecs are NICs in Arktos's words, with the addresses that they have.
func nicSpecs(nics []vm.AttachedNIC) (out []*arktosv1alpha2.NicSpec) {
	for _, n := range nics {
		spec := &arktosv1alpha2.NicSpec{Name: n.Spec.Name, SubnetName: n.Spec.Subnet, PortId: n.Spec.PortID, Tag: n.Spec.Tag, VPC: n.Spec.VPC}
		if n.NIC != nil {
			spec.IpAddress, spec.IsIpV6Enabled = addressOf(*n.NIC)
		}
		out = append(out, spec)
	}
	return out
}

// addressOf is the first address of a NIC, and whether one is of IPv6.
func addressOf(n vm.NIC) (first string, six bool) {
	for i, ip := range n.IPs {
		if i == 0 {
			first = ip.Prefix.Addr().String()
		}
		six = six || ip.Prefix.Addr().Is6()
	}
	return first, six
}

// nicStatuses are the states of NICs in Arktos's words.
func nicStatuses(nics []vm.AttachedNIC) (out []*arktosv1alpha2.NICStatus) {
	for _, n := range nics {
		state, reason := stateOf(n)
		out = append(out, &arktosv1alpha2.NICStatus{Name: n.Spec.Name, PortId: n.Spec.PortID, State: state, Reason: reason})
	}
	return out
}

// stateOf is Arktos's view of a NIC's state, with its reason.
func stateOf(n vm.AttachedNIC) (state arktosv1alpha2.NICState, reason string) {
	switch {
	case n.State != vm.NICAttached:
		return arktosv1alpha2.NICState_NIC_INPROGRESS, string(n.State)
	case n.Unplugged:
		return arktosv1alpha2.NICState_NIC_FAILED, "Unplugged"
	}
	return arktosv1alpha2.NICState_NIC_READY, string(n.State)
}

// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// The pod annotations that say what network a pod is in.
const (
	annotationVPC     = "VPC"
	annotationNICs    = "NICs"
	annotationCNIArgs = "arktos.futurewei.com/cni-args"
)

// What plugins for Arktos read in CNI_ARGS.
const (
	argTenant = "K8S_POD_TENANT"
	argVPC    = "VPC"
	argNICs   = "NICs"
)

// nic is an element of annotation NICs, and what AttachNetworkInterface names.
type nic struct {
	Name        string `json:"name,omitempty"`
	SubnetName  string `json:"subnetName,omitempty"`
	PortID      string `json:"portId,omitempty"`
	IPAddress   string `json:"ipAddress,omitempty"`
	Tag         string `json:"tag,omitempty"`
	IPv6Enabled bool   `json:"ipv6Enabled,omitempty"`

	vpc string
	// text is the element as it came.
	text string
}

// primary tells whether it is the NIC that CNI's ADD gives the pod. One without a name is.
func (n nic) primary() bool { return n.Name == "" || n.Name == vm.PrimaryNIC }

// nicsOf reads annotation NICs.
func nicsOf(annotations map[string][]byte) ([]nic, error) {
	text := annotations[annotationNICs]
	if len(text) == 0 {
		return nil, nil
	}
	field := "annotation " + annotationNICs
	var elements []json.RawMessage
	if err := json.Unmarshal(text, &elements); err != nil {
		return nil, invalid(field, "it is no JSON array such as [{\"name\":\"eth0\",\"portId\":\"...\"}]: %v", err)
	}
	nics, seen := make([]nic, len(elements)), map[string]bool{}
	for i, element := range elements {
		if err := json.Unmarshal(element, &nics[i]); err != nil {
			return nil, invalid(field, "element %d: %v", i, err)
		}
		name := nics[i].Name
		if nics[i].primary() {
			name = vm.PrimaryNIC
		}
		if seen[name] {
			return nil, invalid(field, "element %d: %q is there twice (one without a name is %s)", i, name, vm.PrimaryNIC)
		}
		seen[name] = true
		nics[i].vpc, nics[i].text = string(annotations[annotationVPC]), compact(element)
	}
	return nics, nil
}

// compact is JSON without blanks: CNI_ARGS cannot carry a line break.
func compact(text []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return string(text) // it was parsed before
	}
	return b.String()
}

// cniArgs are the arguments that Arktos's own runtime gives CNI's plugins beside who the pod is.
func cniArgs(tenant string, annotations map[string][]byte) (map[string]string, error) {
	for _, key := range []string{annotationVPC, annotationNICs, annotationCNIArgs} {
		if !utf8.Valid(annotations[key]) {
			return nil, invalid("annotation "+key, "it is no text")
		}
	}
	args := map[string]string{}
	for key, value := range map[string]string{argTenant: tenant, argVPC: string(annotations[annotationVPC]), argNICs: compact(annotations[annotationNICs])} {
		if value != "" {
			args[key] = value
		}
	}
	more := string(annotations[annotationCNIArgs])
	if strings.ContainsAny(more, `"'`) {
		return nil, invalid("annotation "+annotationCNIArgs, "it must hold no quotes")
	}
	for pair := range strings.SplitSeq(more, ";") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, value, is := strings.Cut(pair, "=")
		if _, taken := args[key]; !is || key == "" || taken || strings.HasPrefix(key, "K8S_POD_") || key == argVPC || key == argNICs {
			return nil, invalid("annotation "+annotationCNIArgs, "%q is no KEY=VALUE with a key of its own; pairs have \";\" between them", pair)
		}
		args[key] = value
	}
	return args, nil
}

// spec is the NIC in the words of the use cases. The plugins read of it in CNI_ARGS what those of the pod's own NIC read.
func (n nic) spec(sb vm.Sandbox) vm.NICSpec {
	spec := vm.NICSpec{
		Name: n.Name, PortID: n.PortID, Subnet: n.SubnetName, VPC: n.vpc, Tag: n.Tag,
		Args: map[string]string{argNICs: "[" + n.text + "]"},
	}
	if spec.VPC == "" {
		spec.VPC = sb.Spec.CNIArgs[argVPC]
	}
	if n.IPAddress != "" {
		spec.IPs = []string{n.IPAddress}
	}
	return spec
}

// asks tells whether a NIC that is there is what this one asks for, as far as it says.
func (n nic) asks(is vm.NICSpec) bool {
	for asked, has := range map[string]string{"port " + n.PortID: "port " + is.PortID, "subnet " + n.SubnetName: "subnet " + is.Subnet,
		"vpc " + n.vpc: "vpc " + is.VPC, "tag " + n.Tag: "tag " + is.Tag, "ip " + n.IPAddress: "ip " + strings.Join(is.IPs, " ")} {
		if !strings.HasSuffix(asked, " ") && asked != has {
			return false
		}
	}
	return true
}

// attachMissing attaches the NICs of a pod that its sandbox does not have.
func (s *Server) attachMissing(ctx context.Context, sb vm.Sandbox, nics []nic) error {
	if sb.Status.State != vm.SandboxReady {
		return nil // who wants more of it is refused
	}
	for _, n := range nics {
		if n.primary() || given(sb, n.Name) {
			continue
		}
		if has, there := sb.Status.AttachedNIC(n.Name); there && has.State == vm.NICAttached {
			continue
		}
		if err := s.attach(ctx, sb, n); err != nil {
			return fmt.Errorf("annotation %s: %w", annotationNICs, err)
		}
	}
	return nil
}

// attach attaches a NIC, or goes on with one that is there as asked.
func (s *Server) attach(ctx context.Context, sb vm.Sandbox, n nic) error {
	spec := n.spec(sb)
	if has, there := sb.Status.AttachedNIC(n.Name); there && n.asks(has.Spec) {
		spec = has.Spec
	}
	_, err := s.svc.AttachNIC(ctx, sb.ID, spec, nil)
	return err
}

// given tells whether CNI's ADD has made an interface.
func given(sb vm.Sandbox, name string) bool {
	if sb.Status.Network == nil {
		return false
	}
	for _, n := range sb.Status.Network.NICs {
		if n.Name == name {
			return true
		}
	}
	return false
}

// ofPod are the NICs that the node agent is told of: those that the pod's spec names, and those that were attached by this API.
// One that it does not know it would have detached.
func ofPod(sb vm.Sandbox) (nics []*arktosv1alpha2.NicSpec, statuses []*arktosv1alpha2.NICStatus) {
	if sb.Status.Network == nil {
		return nil, nil
	}
	asked, err := nicsOf(map[string][]byte{annotationNICs: []byte(sb.Spec.Annotations[annotationNICs])})
	if err != nil {
		return nil, nil // by runtime.v1: its pods have no NICs of Arktos's
	}
	tell := func(n vm.NIC, spec vm.NICSpec, state arktosv1alpha2.NICState, reason string) {
		out := &arktosv1alpha2.NicSpec{Name: spec.Name, SubnetName: spec.Subnet, PortId: spec.PortID, Tag: spec.Tag, VPC: spec.VPC}
		for _, ip := range n.IPs {
			if out.GetIpAddress() == "" {
				out.IpAddress = ip.Prefix.Addr().String()
			}
			out.IsIpV6Enabled = out.GetIsIpV6Enabled() || ip.Prefix.Addr().Is6()
		}
		nics = append(nics, out)
		statuses = append(statuses, &arktosv1alpha2.NICStatus{Name: spec.Name, PortId: spec.PortID, State: state, Reason: reason})
	}
	for _, has := range sb.Status.Network.NICs {
		for _, n := range asked {
			if n.Name == has.Name {
				tell(has, n.spec(sb), arktosv1alpha2.NICState_NIC_READY, "Attached")
			}
		}
	}
	for _, has := range sb.Status.NICs {
		if _, ours := has.Spec.Args[argNICs]; !ours {
			continue
		}
		var n vm.NIC
		if has.NIC != nil {
			n = *has.NIC
		}
		state, reason := stateOf(has)
		tell(n, has.Spec, state, reason)
	}
	return nics, statuses
}

func nicStatuses(sb vm.Sandbox) []*arktosv1alpha2.NICStatus {
	_, statuses := ofPod(sb)
	return statuses
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

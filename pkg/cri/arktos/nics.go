// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/vmlet/vmlet/pkg/vm"
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
	if err := checkText(annotations, annotationVPC, annotationNICs); err != nil {
		return nil, err
	}
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
		// The text may hide what the words say: JSON has ways to write a semicolon, at which CNI_ARGS would go on with another argument.
		if ip := nics[i].IPAddress; ip != "" {
			if _, err := vm.AddrOf(ip); err != nil {
				return nil, invalid(field, "element %d: ipAddress %q is no IP address", i, ip)
			}
		}
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

// checkText refuses annotations that CNI's plugins could not be told.
func checkText(annotations map[string][]byte, keys ...string) error {
	for _, key := range keys {
		if !utf8.Valid(annotations[key]) {
			return invalid("annotation "+key, "it is no text")
		}
	}
	return nil
}

// cniArgs are the arguments that Arktos's own runtime gives CNI's plugins beside who the pod is.
func cniArgs(tenant string, annotations map[string][]byte) (map[string]string, error) {
	if err := checkText(annotations, annotationVPC, annotationNICs, annotationCNIArgs); err != nil {
		return nil, err
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

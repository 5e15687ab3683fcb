// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// AttachNetworkInterface gives the VM of a pod another NIC. It goes on when its caller's deadline is over.
func (s *Server) AttachNetworkInterface(ctx context.Context, req *arktosv1alpha2.DeviceAttachDetachRequest) (*arktosv1alpha2.DeviceAttachDetachResponse, error) {
	sb, err := s.sandboxOf(req.GetPodSandboxID(), req.GetVmName())
	if err != nil {
		return nil, err
	}
	if err := checkNIC(req.GetNic()); err != nil {
		return nil, err
	}
	n := nic{
		Name: req.GetNic().GetName(), SubnetName: req.GetNic().GetSubnetName(), PortID: req.GetNic().GetPortId(),
		IPAddress: req.GetNic().GetIpAddress(), Tag: req.GetNic().GetTag(), IPv6Enabled: req.GetNic().GetIsIpV6Enabled(), vpc: req.GetNic().GetVPC(),
	}
	text, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("attach NIC: %w", err)
	}
	n.text = string(text)
	if err := s.attach(ctx, sb, n); err != nil {
		return nil, err
	}
	return &arktosv1alpha2.DeviceAttachDetachResponse{}, nil
}

// DetachNetworkInterface takes a NIC from the VM of a pod. One that is not there is a success.
func (s *Server) DetachNetworkInterface(ctx context.Context, req *arktosv1alpha2.DeviceAttachDetachRequest) (*arktosv1alpha2.DeviceAttachDetachResponse, error) {
	sb, err := s.sandboxOf(req.GetPodSandboxID(), req.GetVmName())
	if err != nil {
		return nil, err
	}
	if err := checkNIC(req.GetNic()); err != nil {
		return nil, err
	}
	if err := s.svc.DetachNIC(ctx, sb.ID, req.GetNic().GetName(), 0); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return nil, err
	}
	return &arktosv1alpha2.DeviceAttachDetachResponse{}, nil
}

// ListNetworkInterfaces answers from memory.
func (s *Server) ListNetworkInterfaces(_ context.Context, req *arktosv1alpha2.ListDeviceRequest) (*arktosv1alpha2.ListDeviceResponse, error) {
	sb, err := s.sandboxOf(req.GetPodSandboxId(), req.GetVmName())
	if err != nil {
		return nil, err
	}
	nics := ofPod(sb)
	if name := req.GetNicName(); name != "" {
		nics = slices.DeleteFunc(nics, func(n vm.AttachedNIC) bool { return n.Spec.Name != name })
	}
	return &arktosv1alpha2.ListDeviceResponse{Nics: nicSpecs(nics)}, nil
}

func checkNIC(n *arktosv1alpha2.NicSpec) error {
	if n.GetName() == "" {
		return invalid("Nic.Name", "must not be empty")
	}
	return nil
}

// sandboxOf finds the sandbox of a pod. The node agent knows it by the pod's bare name; NAMESPACE/NAME, TENANT/NAMESPACE/NAME
// and the sandbox's whole ID do as well: the beginning of one may be the name of another pod. InvalidArgument, with the candidates, for the name of more than one pod. vmName, where
// there is one, is that of a container of the pod.
func (s *Server) sandboxOf(pod, vmName string) (vm.Sandbox, error) {
	if pod == "" {
		return vm.Sandbox{}, invalid("PodSandboxID", "must not be empty: the name of a pod, or the ID of its sandbox")
	}
	sb, err := s.sandboxOfPod(pod)
	if errors.Is(err, errdefs.ErrNotFound) && !strings.Contains(pod, "/") {
		if byID, errID := s.svc.Sandbox(pod); errID == nil && byID.ID == pod {
			sb, err = byID, nil
		}
	}
	if err != nil {
		return vm.Sandbox{}, err
	}
	if vmName != "" && !slices.ContainsFunc(s.svc.Containers(), func(c *vm.Container) bool { return c.SandboxID == sb.ID && c.Spec.Name == vmName }) {
		return vm.Sandbox{}, fmt.Errorf("pod %s has no VM %q: %w", sb.Spec.Pod(), vmName, errdefs.ErrNotFound)
	}
	return sb, nil
}

// sandboxOfPod takes the newest ready sandbox of each pod for the pod.
func (s *Server) sandboxOfPod(name string) (vm.Sandbox, error) {
	newest := map[string]*vm.Sandbox{} // by pod and UID; the list is oldest first
	for _, sb := range s.svc.Sandboxes() {
		named := name == sb.Spec.Name || name == sb.Spec.Namespace+"/"+sb.Spec.Name || name == sb.Spec.Pod()
		if named && sb.Status.State == vm.SandboxReady {
			newest[sb.Spec.Pod()+"/"+sb.Spec.UID] = sb
		}
	}
	var candidates []string
	var found vm.Sandbox
	for _, sb := range newest {
		found = *sb
		candidates = append(candidates, sb.Spec.Pod()+" ("+sb.ID+")")
	}
	switch len(candidates) {
	case 0:
		return vm.Sandbox{}, fmt.Errorf("no pod %q has a ready sandbox: %w", name, errdefs.ErrNotFound)
	case 1:
		return found, nil
	}
	slices.Sort(candidates)
	return vm.Sandbox{}, fmt.Errorf("%q is the name of %d pods, name one of them by its namespace, its tenant or its sandbox's ID: %s: %w",
		name, len(candidates), strings.Join(candidates, ", "), errdefs.ErrInvalidArgument)
}

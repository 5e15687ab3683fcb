// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// undoTimeout bounds the removal of a sandbox that did not get its NICs.
const undoTimeout = time.Minute

// RunPodSandbox returns when the sandbox has its network and the NICs of the pod's spec.
func (s *Server) RunPodSandbox(ctx context.Context, req *arktosv1alpha2.RunPodSandboxRequest) (*arktosv1alpha2.RunPodSandboxResponse, error) {
	nics, err := nicsOf(req.GetConfig().GetAnnotations())
	if err != nil {
		return nil, err
	}
	spec, err := s.sandboxSpec(req, nics)
	if err != nil {
		return nil, err
	}
	id, err := s.svc.RunSandbox(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := s.giveNICs(ctx, id, nics); err != nil {
		return nil, errors.Join(fmt.Errorf("run sandbox %s: %w", id, err), s.takeBack(ctx, id))
	}
	return &arktosv1alpha2.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// sandboxSpec is what runtime.v1 makes of the request, and what Arktos says beside it.
func (s *Server) sandboxSpec(req *arktosv1alpha2.RunPodSandboxRequest, nics []nic) (vm.SandboxSpec, error) {
	config := req.GetConfig()
	settings, err := settingsOf(config.GetAnnotations())
	if err != nil {
		return vm.SandboxSpec{}, err
	}
	theirs, err := translate(&arktosv1alpha2.RunPodSandboxRequest{Config: withoutAnnotations(config), RuntimeHandler: req.GetRuntimeHandler()},
		&runtimeapi.RunPodSandboxRequest{})
	if err != nil {
		return vm.SandboxSpec{}, err
	}
	spec, err := s.v1.SandboxSpec(theirs)
	if err != nil {
		return vm.SandboxSpec{}, err
	}
	spec.Settings = settings
	spec.Annotations, spec.BinaryAnnotations = split(config.GetAnnotations())
	if spec.Tenant, err = tenantOf(config); err != nil {
		return vm.SandboxSpec{}, err
	}
	if spec.CNIArgs, err = cniArgs(spec.Tenant, config.GetAnnotations()); err != nil {
		return vm.SandboxSpec{}, err
	}
	for _, n := range nics {
		if n.primary() && n.IPAddress != "" {
			spec.IPs = []string{n.IPAddress}
		}
	}
	return spec, nil
}

// withoutAnnotations is a configuration that runtime.v1 can hold.
func withoutAnnotations(config *arktosv1alpha2.PodSandboxConfig) *arktosv1alpha2.PodSandboxConfig {
	if config == nil {
		return nil
	}
	return &arktosv1alpha2.PodSandboxConfig{
		Metadata: config.GetMetadata(), Hostname: config.GetHostname(), LogDirectory: config.GetLogDirectory(), DnsConfig: config.GetDnsConfig(),
		PortMappings: config.GetPortMappings(), Labels: config.GetLabels(), Linux: config.GetLinux(),
	}
}

// split tells annotations that are text from those that are not.
func split(annotations map[string][]byte) (text map[string]string, binary map[string][]byte) {
	for key, value := range annotations {
		if utf8.Valid(value) {
			if text == nil {
				text = map[string]string{}
			}
			text[key] = string(value)
			continue
		}
		if binary == nil {
			binary = map[string][]byte{}
		}
		binary[key] = value
	}
	return text, binary
}

// tenantOf is the pod's tenant. It is a part of names, and an argument of CNI.
func tenantOf(config *arktosv1alpha2.PodSandboxConfig) (string, error) {
	const field, longest = "config.metadata.tenant", 253
	tenant := config.GetMetadata().GetTenant()
	if len(tenant) > longest || strings.ContainsAny(tenant, "/;=") || strings.ContainsFunc(tenant, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return "", invalid(field, "it is no name: at most %d bytes without blanks, \"/\", \";\" and \"=\"", longest)
	}
	return tenant, nil
}

// giveNICs sees to it that a sandbox has the NICs of its pod, with the addresses that were asked for.
func (s *Server) giveNICs(ctx context.Context, id string, nics []nic) error {
	sb, err := s.svc.Sandbox(id)
	if err != nil {
		return err
	}
	for _, n := range nics {
		if n.primary() && n.IPAddress != "" && !hasAddress(sb, n.IPAddress) {
			return fmt.Errorf("annotation %s: the network gave %v to %s, not %s as asked: %w",
				annotationNICs, sb.Status.Network.IPs(), vm.PrimaryNIC, n.IPAddress, errdefs.ErrFailedPrecondition)
		}
	}
	return s.attachMissing(ctx, sb, nics)
}

func hasAddress(sb vm.Sandbox, address string) bool {
	asked, err := vm.AddrOf(address)
	return err == nil && slices.Contains(sb.Status.Network.IPs(), asked)
}

// takeBack removes a sandbox that its caller never learns of. One that a call before this one has made, and that has
// containers, stays, and so does one whose caller has gone: what it lacks it gets with its first container.
func (s *Server) takeBack(ctx context.Context, id string) error {
	if ctx.Err() != nil || slices.ContainsFunc(s.svc.Containers(), func(c *vm.Container) bool { return c.SandboxID == id }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return s.svc.RemoveSandbox(ctx, id)
}

// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/version"
)

// Reasons of conditions that are not met; the message has the details. A kubelet shows
// both in the node's Ready condition.
const (
	reasonStarting  = "Starting"
	reasonNoRuntime = "LibvirtNotReady"
	reasonNoNetwork = "NetworkPluginNotReady"
	handlerInfoKey  = "handlers"
	softwareInfoKey = "versions"
	// The capabilities of the host, as vmlet.v1 tells them.
	capabilitiesInfoKey = "capabilities"
	conditionRuntime    = runtimeapi.RuntimeReady
	conditionNetwork    = runtimeapi.NetworkReady
)

// Status tells whether pods could run now. It always answers, also while the daemon
// recovers: a kubelet that gets an error here reports "container runtime is down", one
// that gets a condition reports its reason.
func (s *Server) Status(ctx context.Context, req *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	resp := &runtimeapi.StatusResponse{
		Status:          &runtimeapi.RuntimeStatus{Conditions: s.conditions(ctx)},
		RuntimeHandlers: runtimeHandlers(s.cfg.Handlers),
		// supplemental_groups_policy, user_namespaces_host_network and mount_options need a
		// process that the runtime starts itself, on the host's kernel: none is offered.
		Features: &runtimeapi.RuntimeFeatures{},
	}
	if req.GetVerbose() {
		info, err := s.statusInfo()
		if err != nil {
			return nil, err
		}
		resp.Info = info
	}
	return resp, nil
}

func (s *Server) conditions(ctx context.Context) []*runtimeapi.RuntimeCondition {
	if err := s.cfg.Starting(); err != nil {
		return []*runtimeapi.RuntimeCondition{
			condition(conditionRuntime, reasonStarting, err),
			condition(conditionNetwork, reasonStarting, err),
		}
	}
	return []*runtimeapi.RuntimeCondition{
		condition(conditionRuntime, reasonNoRuntime, s.svc.RuntimeReady(ctx)),
		condition(conditionNetwork, reasonNoNetwork, s.svc.NetworkReady(ctx)),
	}
}

func condition(kind, reason string, err error) *runtimeapi.RuntimeCondition {
	if err == nil {
		return &runtimeapi.RuntimeCondition{Type: kind, Status: true}
	}
	return &runtimeapi.RuntimeCondition{Type: kind, Reason: reason, Message: err.Error()}
}

// runtimeHandlers lists the default handler and the named ones, which run the same VMs.
// user_namespaces is false: guests have users of their own, whatever the host maps.
func runtimeHandlers(names []string) []*runtimeapi.RuntimeHandler {
	features := &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true}
	out := []*runtimeapi.RuntimeHandler{{Features: features}}
	for _, name := range names {
		if name != "" { // "Name must be unique in StatusResponse."
			out = append(out, &runtimeapi.RuntimeHandler{Name: name, Features: features})
		}
	}
	return out
}

// statusInfo adds what the handlers know themselves to what main gave.
func (s *Server) statusInfo() (map[string]string, error) {
	parts := map[string]any{
		softwareInfoKey: map[string]string{"vmlet": version.Version, "commit": version.Commit, "go": runtime.Version()},
		handlerInfoKey:  append([]string{""}, s.cfg.Handlers...),
	}
	if all, err := s.svc.Capabilities(""); err == nil { // libvirt may not have said yet
		parts[capabilitiesInfoKey] = all
	}
	maps.Copy(parts, s.cfg.Info())
	info := make(map[string]string, len(parts))
	for key, part := range parts {
		text, err := json.Marshal(part)
		if err != nil {
			return nil, fmt.Errorf("status: info %q: %w", key, err)
		}
		info[key] = string(text)
	}
	return info, nil
}

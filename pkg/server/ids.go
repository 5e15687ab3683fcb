// SPDX-License-Identifier: Apache-2.0

package server

import "go.uber.org/zap"

// Messages name what they are about by these methods, in every API served here.
type (
	ofSandbox   interface{ GetPodSandboxId() string }
	ofContainer interface{ GetContainerId() string }
	// ofVM names a VM by the ID of a sandbox or a container, or by its pod.
	ofVM interface{ GetVm() string }
)

// idFields are the IDs in a message.
func idFields(message any) []zap.Field {
	var fields []zap.Field
	if m, ok := message.(ofSandbox); ok && m.GetPodSandboxId() != "" {
		fields = append(fields, zap.String("sandbox", m.GetPodSandboxId()))
	}
	if m, ok := message.(ofContainer); ok && m.GetContainerId() != "" {
		fields = append(fields, zap.String("container", m.GetContainerId()))
	}
	if m, ok := message.(ofVM); ok && m.GetVm() != "" {
		fields = append(fields, zap.String("vm", m.GetVm()))
	}
	return fields
}

// newIDFields are the IDs that a call gave: those of the response that the request does
// not have. A call that failed has a response of nil, maybe with a type.
func newIDFields(req, resp any) []zap.Field {
	asked := idFields(req)
	var fields []zap.Field
	for _, field := range idFields(resp) {
		known := false
		for _, a := range asked {
			known = known || a.Key == field.Key
		}
		if !known {
			fields = append(fields, field)
		}
	}
	return fields
}

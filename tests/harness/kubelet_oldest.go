// SPDX-License-Identifier: Apache-2.0

package harness

import "testing"

// StartOldKubelet starts the oldest kubelet that speaks runtime.v1 only. It has the same configuration: what it does
// not know of it, it passes over with a warning. Its pods' logs are in /var/log/pods, whatever the configuration says.
func StartOldKubelet(t *testing.T, node *Node) *Kubelet {
	t.Helper()
	return StartKubelet(t, node, WithKubelet("kubelet-oldest"), WithKubeletFlags(
		"--container-runtime-endpoint=unix://"+node.Socket(), "--image-service-endpoint=unix://"+node.Socket()))
}

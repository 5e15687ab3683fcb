// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPs(t *testing.T) {
	w := newWorld(t)
	w.addPods("/var/log/vmlet")
	for file, args := range map[string][]string{
		"ps.txt":       {"ps"},
		"ps-all.txt":   {"ps", "-a"},
		"ps-all.json":  {"ps", "--all", "-o", "json"},
		"ps-all.yaml":  {"-o", "yaml", "ps", "-a"},
		"ps-plain.txt": {"-a", w.socket, "ps", "--address", w.socket},
	} {
		t.Run(file, func(t *testing.T) {
			got := w.ctl(t, args...)
			got.wantOK(t)
			golden(t, file, got.stdout)
		})
	}
}

func TestPsOfNothing(t *testing.T) {
	w := newWorld(t)
	if got := w.ctl(t, "ps", "-o", "json"); got.stdout != "[]\n" {
		t.Errorf("got %q", got.stdout)
	}
}

func TestPsLeavesOutWhatIsRemovedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.fail("ContainerStatus", codes.NotFound, "container: not found")
	got := w.ctl(t, "ps", "-a")
	got.wantOK(t)
	golden(t, "ps-removed.txt", got.stdout)
}

func TestPsShowsAVMWhosePodIsNotReady(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.sandboxes[0].State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	got := w.ctl(t, "ps")
	got.wantOK(t)
	golden(t, "ps-not-ready.txt", got.stdout)
}

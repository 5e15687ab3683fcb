// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"strings"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

func TestAStaticPodBecomesReady(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node)
	k.Apply("plain", `apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  containers:
  - name: vm
    image: IMAGE
    readinessProbe: {exec: {command: [pgrep, httpd]}, periodSeconds: 1}
`)
	pod := k.WaitReady("plain")
	boot, err := k.Run("plain", "cat /proc/sys/kernel/random/boot_id")
	if err != nil || len(strings.TrimSpace(boot)) != 36 {
		t.Errorf("boot ID %q, %v", boot, err)
	}
	if log := k.WaitLog("plain", "READY"); !strings.Contains(log, strings.TrimSpace(boot)) {
		t.Errorf("the log does not name boot %s: %s", boot, log)
	}
	t.Logf("%+v", pod.Status)
	k.Delete("plain")
	k.WaitGone("plain")
}

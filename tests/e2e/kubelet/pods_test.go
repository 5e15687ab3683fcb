// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// podScenario is one of several on a node that have each their own pod.
type podScenario struct {
	name  string
	apply func()
	check func(t *testing.T)
}

// ahead is how many scenarios' guests boot while another's is looked at.
const ahead = 2

// runPods runs scenarios one after another, with the pods of the next ones on their way: what one waits for, the
// others use.
func runPods(t *testing.T, scenarios []podScenario) {
	t.Helper()
	applied := 0
	for i, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			begin := time.Now()
			for applied = max(applied, i); applied < min(i+1+ahead, len(scenarios)); applied++ {
				scenarios[applied].apply()
			}
			s.check(t)
			t.Logf("%.1f s", time.Since(begin).Seconds())
		})
	}
}

// patientNode is a node whose guests may boot beside others.
func patientNode(t *testing.T, opts ...harness.NodeOption) *harness.Node {
	t.Helper()
	return harness.StartNode(t, append(opts, harness.WithConfig("defaults: {memory: 128MiB, agentTimeout: 5m}"))...)
}

// podSpec is a manifest of one container that has the host folder DIR/NAME at /data.
func podSpec(name, dir, spec, container string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
%s
  volumes: [{name: data, hostPath: {path: %s, type: DirectoryOrCreate}}]
  containers:
  - name: vm
    image: IMAGE
    volumeMounts: [{name: data, mountPath: /data}]
%s`, name, indent(2, spec), filepath.Join(dir, name), indent(4, container))
}

func indent(n int, text string) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+pad)
}

// sharedText is a file that a guest has written to its folder, "" if it has not.
func sharedText(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// waitGuest waits until a command in the guest prints a text.
func waitGuest(k *harness.Kubelet, pod, command, text string) {
	k.Node.Eventually(2*time.Minute, func() error {
		out, err := k.Run(pod, command)
		if err == nil && !strings.Contains(out, text) {
			err = fmt.Errorf("no %q in %q", text, out)
		}
		return err
	})
}

// inGuest is what a shell script in the guest prints. Its arguments are split at spaces by kubelet's server, so it
// must not have quotes that matter.
func inGuest(t *testing.T, k *harness.Kubelet, pod, command string) string {
	t.Helper()
	out, err := k.Run(pod, command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(out)
}

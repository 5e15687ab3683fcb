// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestInspect(t *testing.T) {
	w := newWorld(t)
	w.addPods("/var/log/vmlet")
	for file, args := range map[string][]string{
		"inspect-running.txt":   {"inspect", "web"},
		"inspect-running.json":  {"inspect", "web", "-o", "json"},
		"inspect-exited.txt":    {"inspect", "shop/db"},
		"inspect-bare.txt":      {"inspect", bareID},
		"inspect-container.txt": {"inspect", webBoot1},
		"inspect-bare.yaml":     {"inspect", "bare", "-o", "yaml"},
	} {
		t.Run(file, func(t *testing.T) {
			got := w.ctl(t, args...)
			got.wantOK(t)
			golden(t, file, got.stdout)
		})
	}
	w.ctl(t, "inspect", "moon").wantError(t, exitFailed, `no pod "moon"`)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestTheAgentsBinaryIsTheOneThatIsNamedElseTheOneBesideVmlet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(path, []byte("named"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := agentBinary(path); err != nil || string(got) != "named" {
		t.Errorf("binary = %q, %v", got, err)
	}
	if _, err := agentBinary(path + "-not"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "guestAgent.binary") {
		t.Errorf("error = %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(self), agentName) // in the test binary's own temporary folder
	if err := os.WriteFile(beside, []byte("beside"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(beside); err != nil {
			t.Error(err)
		}
	})
	if got, err := agentBinary(""); err != nil || string(got) != "beside" {
		t.Errorf("binary = %q, %v", got, err)
	}
}

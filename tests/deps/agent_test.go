// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// agentMost is what vmlet-agent may weigh: it travels on every seed that carries it.
const agentMost = 6 << 20

// TestAgentIsStaticAndSmall builds vmlet-agent as the Makefile does. It runs in guests of
// any distribution, so it needs no file of theirs.
func TestAgentIsStaticAndSmall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vmlet-agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", file, "github.com/vmlet/vmlet/cmd/vmlet-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > agentMost {
		t.Errorf("%d bytes, at most %d", info.Size(), agentMost)
	}
	program, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close() //nolint:errcheck // it was only read
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it is linked dynamically: %v", p.Type)
		}
	}
	t.Logf("%.1f MiB", float64(info.Size())/(1<<20))
}

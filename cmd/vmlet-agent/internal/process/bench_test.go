// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"io"
	"os"
	"testing"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// The floor: fork, exec and exit, without anything.
func BenchmarkFloor(b *testing.B) {
	for b.Loop() {
		p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkStart(b *testing.B, p *agentv1.Process) {
	if os.Geteuid() != 0 {
		b.Skip("the agent is root")
	}
	s, err := process.NewStarter(mountns.NewSet())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := s.Start(p, false)
		if err != nil {
			b.Fatal(err)
		}
		for _, out := range p.Outputs() {
			if _, err := io.Copy(io.Discard, out); err != nil {
				b.Fatal(err)
			}
			if err := out.Close(); err != nil {
				b.Fatal(err)
			}
		}
		p.Exit()
	}
}

func BenchmarkStart(b *testing.B) {
	benchmarkStart(b, &agentv1.Process{Args: []string{"true"}})
}

func BenchmarkStartInANamespace(b *testing.B) {
	benchmarkStart(b, &agentv1.Process{
		Args: []string{"true"}, Namespace: "a",
		Security: &agentv1.Security{User: "4321", LimitCapabilities: true, NoNewPrivileges: true},
	})
}

func BenchmarkStartWithAFilter(b *testing.B) {
	benchmarkStart(b, &agentv1.Process{Args: []string{"true"}, Security: &agentv1.Security{Seccomp: allowAll()}})
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// completions are what the shell is offered for a command line, by cobra's own command for that.
func (w *world) completions(t *testing.T, line ...string) []string {
	t.Helper()
	got := w.ctl(t, append([]string{cobra.ShellCompNoDescRequestCmd}, line...)...)
	got.wantOK(t)
	offered := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
	if directive := offered[len(offered)-1]; directive != ":4" { // no files
		t.Errorf("%q ends with %s", line, directive)
	}
	return offered[:len(offered)-1]
}

func TestNamesAreCompletedFromWhatThereIs(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.sandboxes = append(w.sandboxes, &runtimeapi.PodSandboxStatus{
		Id: "9999", Metadata: &runtimeapi.PodSandboxMetadata{Namespace: "shop", Name: "bare", Uid: "u"},
	})
	w.persistent = []*vmletv1.Disk{{Name: "claim/a/b/vm"}}
	for _, tc := range []struct {
		line []string
		want []string
	}{
		{[]string{"inspect", ""}, []string{"db", "default/bare", "shop/bare", "web"}},
		{[]string{"inspect", "w"}, []string{"web"}},
		{[]string{"inspect", "shop/"}, []string{"shop/bare", "shop/db"}},
		{[]string{"inspect", "de"}, []string{"default/bare", "default/web"}},
		{[]string{"inspect", "web", ""}, nil},
		{[]string{"stop", "web", ""}, []string{"db", "default/bare", "shop/bare"}},
		{[]string{"exec", "web", "--", ""}, nil},
		{[]string{"reboot", "--mode", "reset", "w"}, []string{"web"}},
		{[]string{"events", "-f", "w"}, []string{"web"}},
		{[]string{"disk", "rm", ""}, []string{"claim/a/b/vm"}},
	} {
		if got := w.completions(t, tc.line...); !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.line, got, tc.want)
		}
	}
}

func TestCompletionIsSilentWithoutVmlet(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.fail("ListPodSandbox", codes.Unavailable, "vmlet is starting")
	if got := w.completions(t, "inspect", ""); len(got) != 0 {
		t.Errorf("offered %q", got)
	}
	w.on("ListPodSandbox", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	if got := w.completions(t, "inspect", ""); len(got) != 0 {
		t.Errorf("a vmlet that hangs: offered %q", got)
	}
	if got := w.completions(t, "-a", w.socket+".gone", "inspect", ""); len(got) != 0 {
		t.Errorf("a vmlet that is away: offered %q", got)
	}
}

// Whoever adds a command with a POD has it completed.
func TestEveryPodIsCompleted(t *testing.T) {
	var walk func(*cobra.Command) int
	walk = func(cmd *cobra.Command) (n int) {
		for _, sub := range cmd.Commands() {
			n += walk(sub)
			if strings.Contains(sub.Use, "POD") {
				n++
				if sub.ValidArgsFunction == nil {
					t.Errorf("%s: %q is not completed", sub.CommandPath(), sub.Use)
				}
			}
		}
		return n
	}
	a := &app{env: func(string) string { return "" }}
	if n := walk(a.rootCommand()); n < 10 {
		t.Errorf("only %d commands were found", n)
	}
}

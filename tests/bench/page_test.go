// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"os"
	"path/filepath"
	"testing"
)

// fill puts reports onto a page, each by a run of its own, and returns what is on it then.
func fill(t *testing.T, path string, reports ...string) string {
	t.Helper()
	for _, report := range reports {
		var p page
		if err := p.read(path); err != nil {
			t.Fatal(err)
		}
		if err := p.write(report); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestAPageKeepsWhatIsAroundTheReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(path, []byte("before\n"+docsBegin+"old\n"+docsEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := fill(t, path, "newer\n", "new\n"), "before\n"+docsBegin+"new\n"+docsEnd+"after\n"; got != want {
		t.Errorf("page = %q, want %q", got, want)
	}
}

func TestAPageThatIsNotThereIsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	if got, want := fill(t, path, "newer\n", "new\n"), "# Benchmarks\n\n"+docsBegin+"new\n"+docsEnd; got != want {
		t.Errorf("page = %q, want %q", got, want)
	}
}

func TestAPageWithoutAPlaceIsRefusedBeforeTheRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(path, []byte("no marks\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var p page
	if err := p.read(path); err == nil {
		t.Error("no error")
	}
}

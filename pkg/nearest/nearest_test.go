// SPDX-License-Identifier: Apache-2.0

package nearest_test

import (
	"testing"

	"github.com/vmlet/vmlet/pkg/nearest"
)

func TestWord(t *testing.T) {
	known := []string{"listen", "cgroupDriver", "confDir"}
	for word, want := range map[string]struct {
		best    string
		changes int
	}{
		"listen":       {"listen", 0},
		"cgroupdriver": {"cgroupDriver", 0},
		"confdirs":     {"confDir", 1},
		"lsiten":       {"listen", 2},
		"":             {"listen", 6},
	} {
		if best, changes := nearest.Word(word, known); best != want.best || changes != want.changes {
			t.Errorf("Word(%q) = %q, %d; want %q, %d", word, best, changes, want.best, want.changes)
		}
	}
	if best, _ := nearest.Word("a", nil); best != "" {
		t.Errorf("among none: %q", best)
	}
}

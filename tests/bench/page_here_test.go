// SPDX-License-Identifier: Apache-2.0

//go:build !bench

package bench

import (
	"path/filepath"
	"testing"
)

// Not in the binary of `make bench`, which is run elsewhere.
func TestTheProjectsPageHasAPlaceForTheReport(t *testing.T) {
	var p page
	if err := p.read(filepath.Join("..", "..", "docs", "benchmarks.md")); err != nil || p.tail == "" {
		t.Errorf("tail %q, error %v", p.tail, err)
	}
}

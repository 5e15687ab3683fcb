// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A guard that has moved might be missed by `make test`, which runs a third of the mutants.
func TestEachMutantFindsItsGuardAndItsTest(t *testing.T) {
	var mutants []struct{ Name, File, Old, Test, Package string }
	if err := yaml.Unmarshal([]byte(read(t, "../mutants/mutants.yaml")), &mutants); err != nil || len(mutants) == 0 {
		t.Fatalf("%d mutants, %v", len(mutants), err)
	}
	tests := map[string]string{}
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.Name] {
			t.Errorf("%s: there are two of that name", m.Name)
		}
		names[m.Name] = true
		if n := strings.Count(read(t, filepath.Join("../..", m.File)), m.Old); n != 1 {
			t.Errorf("%s: the text to replace is in %s %d times, want once", m.Name, m.File, n)
		}
		if _, ok := tests[m.Package]; !ok {
			files, err := filepath.Glob(filepath.Join("../..", m.Package, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				tests[m.Package] += read(t, file)
			}
		}
		if !strings.Contains(tests[m.Package], "func "+m.Test+"(") {
			t.Errorf("%s: %s has no %s", m.Name, m.Package, m.Test)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/config"
)

func readme(t *testing.T) string { t.Helper(); return read(t, "../../README.md") }

// found are the first groups of all matches, of which there must be some.
func found(t *testing.T, text, pattern string) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("README.md has no match of %s", pattern)
	}
	return out
}

func TestReadmeLinksLeadSomewhere(t *testing.T) {
	for _, link := range found(t, readme(t), `\]\(([^):]+)\)`) {
		if _, err := os.Stat(filepath.Join("../..", link)); err != nil {
			t.Errorf("README.md links to %s: %v", link, err)
		}
	}
}

func TestReadmeNamesTargetsOfTheMakefile(t *testing.T) {
	makefile := read(t, "../../Makefile")
	for _, targets := range found(t, readme(t), `make ((?:[a-z-]+ ?)+)`) {
		for target := range strings.FieldsSeq(targets) {
			if !strings.Contains(makefile, "\n"+target+":") {
				t.Errorf("README.md names %q after make, which is no target", target)
			}
		}
	}
}

func TestReadmeHasEveryAnnotationAndNoOther(t *testing.T) {
	named := found(t, readme(t), "`("+regexp.QuoteMeta(annotations.Prefix)+"[a-z0-9-]+)`")
	known := map[string]bool{}
	for _, k := range annotations.Keys() {
		known[k.Name] = true
		if !strings.Contains(readme(t), "`"+k.Name+"`") {
			t.Errorf("README.md lacks %s", k.Name)
		}
	}
	for _, name := range named {
		if !known[name] {
			t.Errorf("README.md names %s, which vmlet does not know", name)
		}
	}
}

// TestReadmeTellsDefaultsAsTheyAre reads the rows of the table of keys: | `key` | `default` |.
func TestReadmeTellsDefaultsAsTheyAre(t *testing.T) {
	var defaults map[string]any
	if err := yaml.Unmarshal(config.DefaultYAML(), &defaults); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(readme(t), "## Configuration")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\| (.*?) \\|").FindAllStringSubmatch(table, -1)
	if len(rows) < 5 {
		t.Fatalf("only %d keys found", len(rows))
	}
	for _, row := range rows {
		var value any = defaults
		for key := range strings.SplitSeq(row[1], ".") {
			section, ok := value.(map[string]any)
			if !ok {
				value = nil
				break
			}
			value = section[key]
		}
		want, isText := value.(string)
		switch {
		case value == nil:
			t.Errorf("README.md names the key %s, which there is not", row[1])
		case isText && row[2] != "`"+want+"`":
			t.Errorf("README.md says %s for %s, the default is %q", row[2], row[1], want)
		}
	}
}

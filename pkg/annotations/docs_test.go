// SPDX-License-Identifier: Apache-2.0

package annotations_test

import (
	"os"
	"strings"
	"testing"

	"github.com/vmlet/vmlet/pkg/annotations"
)

func TestReferencePageHasEveryKeyAndNoOther(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range annotations.Keys() {
		if row := "| `" + k.Name + "` | " + k.Values + " | " + k.Doc + " |\n"; !strings.Contains(string(page), row) {
			t.Errorf("the page lacks the row\n%s", row)
		}
	}
	if rows := strings.Count(string(page), "\n| `"); rows != len(annotations.Keys()) {
		t.Errorf("the page has %d keys, the code %d", rows, len(annotations.Keys()))
	}
}

// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What clients read by its name has a row in the page.
func TestEventsAndCapabilitiesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/vm-calls.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../vm/vm_event.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, found := range regexp.MustCompile(`(?m)^\t\w+Event +VMEventKind = "([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		names = append(names, found[1])
	}
	if len(names) < 20 {
		t.Fatalf("only %d kinds of events were found: %q", len(names), names)
	}
	for _, c := range capabilities {
		names = append(names, c.name)
	}
	for _, name := range names {
		rows := regexp.MustCompile("(?m)^\\|[^|]*`"+regexp.QuoteMeta(name)+"`[^|]*\\|").FindAllString(string(page), -1)
		if len(rows) != 1 {
			t.Errorf("%q has %d rows in docs/vm-calls.md: %s", name, len(rows), strings.Join(rows, " "))
		}
	}
}

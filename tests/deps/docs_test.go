// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestRequestLifecyclePageNamesRealFiles holds the page that newcomers follow: every file
// and folder that it names exists.
func TestRequestLifecyclePageNamesRealFiles(t *testing.T) {
	page, err := os.ReadFile("../../docs/request-lifecycle.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:pkg|cmd|docs|tests)/[a-z0-9_/.-]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 30 {
		t.Fatalf("only %d paths were found on the page", len(named))
	}
	for _, m := range named {
		if _, err := os.Stat("../../" + m[1]); err != nil {
			t.Errorf("the page names %s, which is not there", m[1])
		}
	}
}

// TestArchitecturePageHasEveryPackage holds the drawing of the house.
func TestArchitecturePageHasEveryPackage(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	g, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range g.packages {
		parts := strings.Split(pkg, "/")
		if parts[0] != "pkg" || len(parts) != 2 {
			continue
		}
		if !strings.Contains(string(page), "pkg/"+parts[1]+"/") {
			t.Errorf("section 2 does not draw %s", pkg)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package critest

import (
	"encoding/xml"
	"os"
	"slices"
	"strings"
	"testing"
)

// readList reads the names of specs, one a line. # begins a comment.
func readList(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var specs []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if slices.Contains(specs, line) {
			t.Errorf("%s names %q twice", path, line)
		}
		specs = append(specs, line)
	}
	return specs
}

// result is what came of a spec, in Ginkgo's words: passed, failed, skipped, timedout...
type result struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"`
	Seconds float64 `xml:"time,attr"`
	Failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	} `xml:"failure"`
}

const passed, skipped = "passed", "skipped"

// readReport reads Ginkgo's JUnit report. What is no spec, such as BeforeSuite, is left out.
func readReport(t *testing.T, path string) map[string]result {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Suites []struct {
			Cases []result `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b, &report); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	specs := map[string]result{}
	for _, suite := range report.Suites {
		for _, r := range suite.Cases {
			if name, ok := strings.CutPrefix(r.Name, "[It] "); ok {
				specs[name] = r
			}
		}
	}
	return specs
}

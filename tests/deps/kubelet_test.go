// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The pods of docs/kubelet.md are files that the tests give to a kubelet as they are.
func TestEachPodOfTheKubeletPageIsAppliedByATest(t *testing.T) {
	page := read(t, "../../docs/kubelet.md")
	tests, err := filepath.Glob("../e2e/kubelet/*_test.go")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	var applied strings.Builder
	for _, file := range tests {
		applied.WriteString(read(t, file))
	}
	pods, err := filepath.Glob("../../docs/kubelet/*.yaml")
	if err != nil || len(pods) == 0 {
		t.Fatalf("no pods: %v", err)
	}
	texts := map[string]bool{}
	for _, file := range pods {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		texts[strings.TrimSpace(read(t, file))] = true
		if !strings.Contains(page, "(kubelet/"+name+".yaml)") {
			t.Errorf("docs/kubelet.md has no link to %s", file)
		}
		if !strings.Contains(applied.String(), `ApplyFile("`+name+`"`) {
			t.Errorf("no test applies %s", file)
		}
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page, -1) {
		if strings.Contains(block[1], "\nkind: Pod\n") && !texts[strings.TrimSpace(block[1])] {
			t.Errorf("this pod of docs/kubelet.md is no file of docs/kubelet:\n%s", block[1])
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^):#]+)`).FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join("../../docs", link[1])); err != nil {
			t.Errorf("docs/kubelet.md links to %s: %v", link[1], err)
		}
	}
}

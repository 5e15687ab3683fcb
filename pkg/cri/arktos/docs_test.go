// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

var (
	pageRow  = regexp.MustCompile(`(?m)^\| (.+?) \| (.+) \|$`)
	pageTest = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	declared = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
)

// pageSection is what docs/reference/arktos.md has under a heading.
func pageSection(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/reference/arktos.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the page has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// rows are the tables of a section: what is in each row behind its first cell.
func rows(t *testing.T, heading string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, m := range pageRow.FindAllStringSubmatch(pageSection(t, heading), -1) {
		name := strings.Trim(m[1], "`")
		found[name] = append(found[name], m[2])
	}
	return found
}

func TestReferencePageHasEveryRPC(t *testing.T) {
	page := rows(t, "RPCs")
	services := arktosv1alpha2.File_arktos_v1alpha2_api_proto.Services()
	n := 0
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			n++
			name := string(services.Get(i).Methods().Get(j).Name())
			if row := page[name]; len(row) != 1 || !strings.HasPrefix(row[0], "served | ") || !pageTest.MatchString(row[0]) {
				t.Errorf("%s has the rows %q", name, row)
			}
		}
	}
	if n != 33 {
		t.Errorf("there are %d RPCs", n)
	}
}

// What Arktos has beside the messages of runtime.v1, or of another type, is on the page field by field.
func TestReferencePageHasEveryFieldOfArktos(t *testing.T) {
	section := pageSection(t, "Fields")
	theirs := (&runtimeapi.PodSandboxStatus{}).ProtoReflect().Descriptor().ParentFile().Messages()
	messages := arktosv1alpha2.File_arktos_v1alpha2_api_proto.Messages()
	n := 0
	for i := range messages.Len() {
		common := theirs.ByName(messages.Get(i).Name())
		for j := range messages.Get(i).Fields().Len() {
			field := messages.Get(i).Fields().Get(j)
			if common != nil && sameField(field, common.Fields().ByNumber(field.Number())) {
				continue
			}
			n++
			if name := fmt.Sprintf("`%s.%s`", messages.Get(i).Name(), field.Name()); !strings.Contains(section, name) {
				t.Errorf("%s has no row", name)
			}
		}
	}
	if n != 31 {
		t.Errorf("Arktos has %d fields of its own", n)
	}
}

func sameField(a, b protoreflect.FieldDescriptor) bool {
	return b != nil && a.Name() == b.Name() && (a.Message() == nil || a.IsMap() || b.Message() != nil && a.Message().Name() == b.Message().Name())
}

func TestReferencePageHasEveryAnnotation(t *testing.T) {
	page := rows(t, "Annotations")
	for name, key := range virtletKeys {
		want := "honoured | "
		if key.refusal != "" {
			want = "refused | "
		}
		if row := page[name]; len(row) != 1 || !strings.HasPrefix(row[0], want) || key.becomes != "" && name != userData && name != userDataScript && !strings.Contains(row[0], "`"+key.becomes+"`") {
			t.Errorf("%s has the rows %q, want one that begins with %s", name, row, want)
		}
		delete(page, name)
	}
	for _, name := range []string{annotationVPC, annotationNICs, annotationCNIArgs} {
		if row := page[name]; len(row) != 1 || !strings.HasPrefix(row[0], "honoured | ") {
			t.Errorf("%s has the rows %q", name, row)
		}
	}
	for name := range page {
		if strings.HasPrefix(name, virtletPrefix) {
			t.Errorf("%s is on the page, and not known", name)
		}
	}
}

// Every part of what the node agent relies on has a test, and every test that the page names is there.
func TestReferencePageNamesItsTests(t *testing.T) {
	page := rows(t, "What its node agent relies on")
	for _, part := range []string{"2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9"} {
		if len(page[part]) == 0 {
			t.Errorf("nothing is said of %s", part)
		}
		for _, row := range page[part] {
			cells := strings.Split(row, "|")
			if !pageTest.MatchString(cells[len(cells)-1]) {
				t.Errorf("%s names no test: %s", part, row)
			}
		}
	}
	there := map[string]bool{}
	for _, dir := range []string{"pkg", "proto", "tests", "cmd"} {
		err := filepath.WalkDir("../../../"+dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(text, -1) {
				there[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	named := 0
	for _, heading := range []string{"RPCs", "Fields", "What its node agent relies on"} {
		for _, m := range pageTest.FindAllStringSubmatch(pageSection(t, heading), -1) {
			if named++; !there[m[1]] {
				t.Errorf("%s is no test", m[1])
			}
		}
	}
	if named < 90 {
		t.Errorf("only %d tests were found on the page", named)
	}
}

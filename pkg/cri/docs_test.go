// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// row is one row of a table on the reference page: the cells behind its name.
type row struct {
	what, text string
	tests      string
}

var (
	pageSection = regexp.MustCompile(`(?m)^#{2,3} (\S+)$`)
	pageRow     = regexp.MustCompile("(?m)^\\| `([A-Za-z_]+)` \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|$")
	pageTest    = regexp.MustCompile("^(?:`(Test[A-Za-z0-9]+)`|critest \\*([^*]+)\\*)$")
)

// referencePage is docs/reference/cri.md: the rows of each section, by heading and name.
func referencePage(t *testing.T) map[string]map[string]row {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference/cri.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]map[string]row{}
	heads := pageSection.FindAllSubmatchIndex(text, -1)
	for i, head := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		rows := map[string]row{}
		for _, m := range pageRow.FindAllSubmatch(text[head[1]:end], -1) {
			if _, twice := rows[string(m[1])]; twice {
				t.Errorf("%s has two rows", m[1])
			}
			cell := func(n int) string { return strings.TrimSpace(string(m[n])) }
			rows[cell(1)] = row{cell(2), cell(3), cell(4)}
		}
		sections[string(text[head[2]:head[3]])] = rows
	}
	return sections
}

func TestReferencePageHasEveryRPC(t *testing.T) {
	page := referencePage(t)
	services := runtimeapi.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Services()
	for i := range services.Len() {
		service, rows := services.Get(i), page[string(services.Get(i).Name())]
		methods := service.Methods()
		for j := range methods.Len() {
			rpc := string(methods.Get(j).Name())
			got, ok := rows[rpc]
			delete(rows, rpc)
			hint, unserved := instead[rpc]
			switch {
			case !ok:
				t.Errorf("%s of %s has no row", rpc, service.Name())
			case unserved && (got.what != "not yet" || got.text != hint):
				t.Errorf("%s: the page says %q, %q; what is answered is %q", rpc, got.what, got.text, hint)
			case !unserved && got.what != "served":
				t.Errorf("%s is served, the page says %q", rpc, got.what)
			}
		}
		for rpc := range rows {
			t.Errorf("%s is no RPC of %s", rpc, service.Name())
		}
	}
}

func TestReferencePageHasEveryField(t *testing.T) {
	page, seen := referencePage(t), map[string]bool{}
	var walk func(protoreflect.MessageDescriptor)
	walk = func(message protoreflect.MessageDescriptor) {
		name := string(message.Name())
		if seen[name] {
			return
		}
		seen[name] = true
		rows, ok := page[name]
		if !ok {
			t.Errorf("%s has no section", name)
		}
		fields := message.Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			got, ok := rows[string(field.Name())]
			delete(rows, string(field.Name()))
			if !ok {
				t.Errorf("%s.%s has no row", name, field.Name())
			} else if !slices.Contains([]string{"honoured", "refused", "ignored"}, got.what) {
				t.Errorf("%s.%s: %q is not one of the page's words", name, field.Name(), got.what)
			}
			if field.Kind() == protoreflect.MessageKind && !field.IsMap() {
				walk(field.Message())
			}
		}
		for _, field := range slices.Sorted(maps.Keys(rows)) {
			t.Errorf("%s has no field %s", name, field)
		}
	}
	walk((&runtimeapi.PodSandboxConfig{}).ProtoReflect().Descriptor())
	walk((&runtimeapi.ContainerConfig{}).ProtoReflect().Descriptor())
	if len(seen) != 31 {
		t.Errorf("%d messages were looked at: %v", len(seen), slices.Sorted(maps.Keys(seen)))
	}
}

// TestReferencePageNamesItsTests: what the page claims, a test that exists holds. What it
// says is ignored has a reason instead.
func TestReferencePageNamesItsTests(t *testing.T) {
	tests, specs := testsOfTheModule(t), passingSpecs(t)
	for section, rows := range referencePage(t) {
		for name, r := range rows {
			where := section + "." + name
			if r.what == "ignored" && r.text == "" {
				t.Errorf("%s is ignored without a reason", where)
			}
			if r.tests == "" {
				if r.what != "ignored" {
					t.Errorf("%s is %s and names no test", where, r.what)
				}
				continue
			}
			for cell := range strings.SplitSeq(r.tests, ", ") {
				m := pageTest.FindStringSubmatch(cell)
				switch {
				case m == nil:
					t.Errorf("%s: %q names no test", where, cell)
				case m[1] != "" && !tests[m[1]]:
					t.Errorf("%s: there is no %s", where, m[1])
				case m[2] != "" && !slices.ContainsFunc(specs, func(s string) bool { return strings.Contains(s, m[2]) }):
					t.Errorf("%s: no spec of critest that must pass has %q", where, m[2])
				}
			}
		}
	}
}

func testsOfTheModule(t *testing.T) map[string]bool {
	t.Helper()
	found, declared := map[string]bool{}, regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	for _, dir := range []string{"../../pkg", "../../tests", "../../cmd"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(text, -1) {
				found[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func passingSpecs(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../tests/e2e/critest/passing.txt")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return line == "" || line[0] == '#' })
}

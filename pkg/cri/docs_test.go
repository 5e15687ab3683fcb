// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// row is one row of a table on the reference page: its name, and the cells behind it.
type row struct{ what, text string }

var (
	pageSection = regexp.MustCompile(`(?m)^#{2,3} (\S+)$`)
	pageRow     = regexp.MustCompile("(?m)^\\| `([A-Za-z_]+)` \\| ([^|]+) \\| ([^|]+) \\|$")
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
			rows[string(m[1])] = row{string(m[2]), string(m[3])}
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

// toldWhole are the messages that the row of the field which holds them tells of.
var toldWhole = []protoreflect.Name{
	"PodSandboxMetadata", "ContainerMetadata", "KeyValue", "Device", "CDIDevice", "IDMapping", "HugepageLimit",
	"Capability", "SELinuxOption", "SecurityProfile", "Int64Value", "WindowsPodSandboxConfig", "WindowsContainerConfig",
}

func TestReferencePageHasEveryField(t *testing.T) {
	page, seen := referencePage(t), map[string]bool{}
	var walk func(protoreflect.MessageDescriptor)
	walk = func(message protoreflect.MessageDescriptor) {
		name := string(message.Name())
		if seen[name] || slices.Contains(toldWhole, message.Name()) {
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
			} else if !slices.Contains([]string{"honoured", "refused", "no effect"}, got.what) {
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
	if len(seen) != 13 {
		t.Errorf("%d messages were looked at: %v", len(seen), slices.Sorted(maps.Keys(seen)))
	}
	for _, name := range toldWhole {
		if _, own := page[string(name)]; own {
			t.Errorf("%s has a section: hold its fields too", name)
		}
	}
}

// TestReferencePageSaysPlainlyWhatDoesNotReachTheGuest holds the first thing that a reader
// must know.
func TestReferencePageSaysPlainlyWhatDoesNotReachTheGuest(t *testing.T) {
	container := referencePage(t)["ContainerConfig"]
	for _, field := range []string{"command", "args", "working_dir", "envs", "mounts"} {
		if got := container[field].what; got != "no effect" {
			t.Errorf("%s: %q; does something act on it now? Then the page's second paragraph must change too", field, got)
		}
	}
}

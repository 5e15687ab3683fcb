// SPDX-License-Identifier: Apache-2.0

// Package deps holds the direction of the imports: docs/architecture.md, section 2, as a table and a test.
package deps

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestImportsPointDownwards(t *testing.T) {
	g, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"pkg/vm", "tests/deps"} {
		if !g.packages[pkg] {
			t.Errorf("%s was not found: is the whole tree read?", pkg)
		}
	}
	for _, broken := range check(g) {
		t.Error(broken)
	}
}

// TestForbiddenImportsAreCaught feeds made-up source trees to the same code.
func TestForbiddenImportsAreCaught(t *testing.T) {
	const own = "github.com/vmlet/vmlet/"
	for name, tc := range map[string]struct {
		file, imports string
		want          string // part of the one message, "" for none
	}{
		"words import a leaf":              {"pkg/vm/a.go", own + "pkg/revert", "depends on none"},
		"words import a library":           {"pkg/vm/a.go", "go.uber.org/zap", "standard library"},
		"words import errdefs":             {"pkg/vm/a.go", "github.com/containerd/errdefs", ""},
		"words import the library":         {"pkg/vm/a.go", "net/netip", ""},
		"adapter imports the words":        {"pkg/disk/a.go", own + "pkg/vm", ""},
		"adapter imports a leaf":           {"pkg/disk/a.go", own + "pkg/revert", ""},
		"adapter imports an adapter":       {"pkg/disk/a.go", own + "pkg/image", "an adapter"},
		"adapter's inside does":            {"pkg/network/dhcp/a.go", own + "pkg/guest", "an adapter"},
		"adapter imports the use cases":    {"pkg/store/a.go", own + "pkg/lifecycle", "an adapter"},
		"adapter imports its inside":       {"pkg/network/a.go", own + "pkg/network/dhcp", ""},
		"leaf imports an adapter":          {"pkg/revert/a.go", own + "pkg/store", "a leaf"},
		"use case imports an adapter":      {"pkg/lifecycle/a.go", own + "pkg/libvirt", "ports.go"},
		"use case imports Arktos's words":  {"pkg/lifecycle/a.go", own + "proto/arktos/v1alpha2", "ports.go"},
		"adapter imports Arktos's words":   {"pkg/network/a.go", own + "proto/arktos/v1alpha2", "an adapter"},
		"handler imports Arktos's words":   {"pkg/vmapi/a.go", own + "proto/arktos/v1alpha2", "An adapter behind its back"},
		"Arktos's handlers, an adapter":    {"pkg/cri/arktos/a.go", own + "pkg/network", "a second CRI"},
		"use case imports the CRI":         {"pkg/lifecycle/a.go", "k8s.io/cri-api/pkg/apis/runtime/v1", "end at the handlers"},
		"use case imports its fakes":       {"pkg/lifecycle/a.go", own + "pkg/lifecycle/lifecycletest", "for tests"},
		"use case's test, real records":    {"pkg/lifecycle/a_test.go", own + "pkg/store", ""},
		"use case's test, real libvirt":    {"pkg/lifecycle/a_test.go", own + "pkg/libvirt", "ports.go"},
		"adapter's test runs its contract": {"pkg/disk/a_test.go", own + "pkg/lifecycle/lifecycletest", ""},
		"adapter's outside test":           {"pkg/disk/a_test.go", own + "pkg/disk", ""},
		"adapter's test, other adapter":    {"pkg/disk/a_test.go", own + "pkg/image", "an adapter"},
		"fakes import an adapter":          {"pkg/lifecycle/lifecycletest/a.go", own + "pkg/store", "fakes"},
		"handler imports an adapter":       {"pkg/cri/a.go", own + "pkg/image", "handlers"},
		"handler imports the use cases":    {"pkg/cri/a.go", own + "pkg/lifecycle", ""},
		"pure XML imports libvirt":         {"pkg/libvirt/domainxml/a.go", "libvirt.org/go/libvirt", "freed"},
		"pure XML imports libvirtxml":      {"pkg/libvirt/domainxml/a.go", "libvirt.org/go/libvirtxml", ""},
		"libvirt's adapter imports it":     {"pkg/libvirt/a.go", "libvirt.org/go/libvirt", ""},
		"another test imports libvirt":     {"pkg/guest/a_test.go", "libvirt.org/go/libvirt", "freed"},
		"pure seed runs a command":         {"pkg/cloudinit/a.go", "os/exec", "pure"},
		"pure seed fetches":                {"pkg/cloudinit/a.go", "net/http", "pure"},
		"adapter imports gRPC":             {"pkg/image/a.go", "google.golang.org/grpc/codes", "errdefs"},
		"product imports testing":          {"pkg/keylock/a.go", "testing", "flags"},
		"test imports testing":             {"pkg/keylock/a_test.go", "testing", ""},
		"CLI imports the use cases":        {"cmd/vmletctl/a.go", own + "pkg/lifecycle", "gRPC only"},
		"daemon imports an adapter":        {"cmd/vmlet/a.go", own + "pkg/libvirt", ""},
		"package without a rule":           {"pkg/novel/a.go", "fmt", "add a rule"},
		"prefix of a name is no match":     {"pkg/vmx/a.go", "fmt", "add a rule"},
		"under another build tag":          {"pkg/disk/a_windows.go", own + "pkg/image", "an adapter"},
		"in another module":                {"tools/x/a.go", own + "pkg/image", ""},
		"in test data":                     {"pkg/vm/testdata/a.go", own + "pkg/image", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := load(fstest.MapFS{
				"go.mod":       {Data: []byte("module github.com/vmlet/vmlet\n")},
				"tools/go.mod": {Data: []byte("module github.com/vmlet/vmlet/tools\n")},
				tc.file:        {Data: []byte("//go:build never\n\npackage a\n\nimport _ \"" + tc.imports + "\"\n")},
			})
			if err != nil {
				t.Fatal(err)
			}
			broken := check(g)
			switch {
			case tc.want == "" && len(broken) > 0:
				t.Errorf("refused: %s", broken)
			case tc.want != "" && (len(broken) != 1 || !strings.Contains(broken[0], tc.want)):
				t.Errorf("got %q, want one message with %q", broken, tc.want)
			}
		})
	}
}

func TestAFileThatDoesNotParseIsAnError(t *testing.T) {
	_, err := load(fstest.MapFS{
		"go.mod":      {Data: []byte("module m\n")},
		"pkg/vm/a.go": {Data: []byte("package\n")},
	})
	if err == nil {
		t.Error("want an error: its imports are unknown")
	}
}

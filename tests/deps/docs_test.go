// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedPath = regexp.MustCompile("`((?:pkg|cmd|docs|tests|build|images|proto|tools)/[A-Za-z0-9_/.-]+)`")
	pageLink  = regexp.MustCompile(`\]\(([^):#]+)[^)]*\)`)
	// namedCode is a file without its folder, or a name in the code, qualified or not.
	namedCode = regexp.MustCompile("`([A-Za-z0-9_./-]+)`")
	codeName  = regexp.MustCompile(`^[A-Za-z]+(\.[A-Za-z]+)*$`)
)

// TestPagesNameRealFiles holds all pages: every file and folder of the tree that they name
// or link to exists.
func TestPagesNameRealFiles(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"../../docs/*.md", "../../docs/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	if len(pages) < 10 {
		t.Fatalf("only %d pages were found", len(pages))
	}
	for _, page := range pages {
		for _, m := range namedPath.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat("../../" + m[1]); err != nil {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
		for _, m := range pageLink.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}

// TestRequestLifecyclePageNeedsNoOtherFile holds the page that newcomers follow: a file
// without a folder lies in the one that was named last, and every name of code is declared
// in a file that the page names.
func TestRequestLifecyclePageNeedsNoOtherFile(t *testing.T) {
	folder, files, names := "", map[string]bool{}, map[string]bool{}
	for _, m := range namedCode.FindAllStringSubmatch(read(t, "../../docs/request-lifecycle.md"), -1) {
		switch name := m[1]; {
		case strings.Contains(name, "/") && path.Ext(name) == ".go":
			folder = path.Dir(name)
			files[name] = true
		case path.Ext(name) == ".go":
			files[path.Join(folder, name)] = true
		case codeName.MatchString(name):
			names[name[strings.LastIndexByte(name, '.')+1:]] = true
		}
	}
	if len(files) < 60 || len(names) < 60 {
		t.Fatalf("only %d files and %d names were found on the page", len(files), len(names))
	}
	declared := map[string]bool{}
	for file := range files {
		declarations(t, file, declared)
	}
	for name := range names {
		if !declared[name] {
			t.Errorf("the page names %s, which no file that it names declares", name)
		}
	}
}

// declarations adds what a file declares: functions, methods, types, fields, values.
func declarations(t *testing.T, file string, into map[string]bool) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), "../../"+file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("the page names %s: %v", file, err)
		return
	}
	add := func(names ...*ast.Ident) {
		for _, n := range names {
			into[n.Name] = true
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			add(n.Name)
			return false // what is local to it is not to be named
		case *ast.TypeSpec:
			add(n.Name)
		case *ast.ValueSpec:
			add(n.Names...)
		case *ast.Field:
			add(n.Names...)
		}
		return true
	})
}

// TestArchitecturePageHasEveryPackage holds the drawing of the house.
func TestArchitecturePageHasEveryPackage(t *testing.T) {
	page := read(t, "../../docs/architecture.md")
	g, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range g.packages {
		parts := strings.Split(pkg, "/")
		if parts[0] != "pkg" || len(parts) != 2 {
			continue
		}
		if !strings.Contains(page, "pkg/"+parts[1]+"/") {
			t.Errorf("section 2 does not draw %s", pkg)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// edge is one import declaration. Packages of the module are named by their path below it, e.g. "pkg/vm".
type edge struct {
	file string // path of the Go file
	from string // its package's folder
	to   string // what it imports
	own  bool   // to is a package of this module
	test bool   // the file is a test
}

// graph is what one source tree imports.
type graph struct {
	packages map[string]bool // every folder with a Go file in it
	edges    []edge
}

// load reads the imports of every Go file of the module at root, whatever its build tags. It reads the files itself
// rather than by `go list`, which sees one set of tags at a time and whose inputs the test cache does not know.
func load(root fs.FS) (graph, error) {
	g := graph{packages: map[string]bool{}}
	module, err := modulePath(root)
	if err != nil {
		return g, err
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return skip(root, name)
		case path.Ext(name) != ".go":
			return nil
		}
		return g.addFile(root, module, name)
	})
	return g, err
}

// skip leaves out the folders that `./...` leaves out.
func skip(root fs.FS, folder string) error {
	base := path.Base(folder)
	if folder == "." {
		return nil
	}
	if base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	_, err := fs.Stat(root, path.Join(folder, "go.mod"))
	if err == nil {
		return fs.SkipDir // another module
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (g *graph) addFile(root fs.FS, module, name string) error {
	src, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		return err
	}
	from := path.Dir(name)
	g.packages[from] = true
	for _, spec := range f.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		below, own := strings.CutPrefix(to, module+"/")
		g.edges = append(g.edges, edge{
			file: name, from: from, to: below, own: own, test: strings.HasSuffix(name, "_test.go"),
		})
	}
	return nil
}

func modulePath(root fs.FS) (string, error) {
	b, err := fs.ReadFile(root, "go.mod")
	if err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if module, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(module), nil
		}
	}
	return "", errors.New("go.mod names no module")
}

// SPDX-License-Identifier: Apache-2.0

// Command licenses checks that every module compiled into our programs comes under a license that lets us ship it.
//
//	go run ./build/lint/licenses FOLDER PACKAGE...
//
// FOLDER is that of a Go module, the packages are patterns as `go list` takes them there. It reads the texts in each
// module's own folder, and exits with status 1 when one is missing, unknown or refused.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// exceptions names the modules that a person has judged, and why the rule below does not fit them.
var exceptions = map[string]string{
	"github.com/opencontainers/go-digest": "LICENSE is Apache-2.0; LICENSE.docs, CC-BY-SA-4.0, is for its documentation",
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: licenses FOLDER PACKAGE...")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, folder string, packages []string) error {
	modules, err := dependencies(folder, packages)
	if err != nil {
		return err
	}
	if len(modules) == 0 {
		return errors.New("no dependency found: are the package patterns right?")
	}
	var errs []error
	for _, m := range modules {
		if _, judged := exceptions[m.Path]; judged {
			continue
		}
		if err := judge(os.DirFS(m.Dir)); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", m.Path, m.Version, err))
		}
	}
	fmt.Fprintf(w, "licenses: %d modules of %s\n", len(modules), folder)
	return errors.Join(errs...)
}

// module is one module as `go list` describes it.
type module struct {
	Path    string `json:"Path"`
	Version string `json:"Version"`
	Dir     string `json:"Dir"`
	Main    bool   `json:"Main"`
}

// dependencies lists the modules, the main one aside, that the packages are compiled from.
func dependencies(folder string, packages []string) ([]module, error) {
	args := append([]string{"list", "-C", folder, "-deps", "-tags", "libvirt_dlopen", "-json=Module"}, packages...)
	cmd := exec.Command("go", args...) //nolint:noctx // ends with this process, and go list ends by itself
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	var modules []module
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			Module *module `json:"Module"`
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		// The standard library has no module.
		if pkg.Module != nil && !pkg.Module.Main {
			modules = append(modules, *pkg.Module)
		}
	}
	slices.SortFunc(modules, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return slices.Compact(modules), nil
}

var licenseFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying)([-._].*)?$`)

// judge reads every license text at the top of a module. All must be allowed: that one text of two lets us choose is
// for a person to read, and to note as an exception.
func judge(dir fs.FS) error {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return err
	}
	texts := 0
	for _, e := range entries {
		if e.IsDir() || !licenseFile.MatchString(e.Name()) {
			continue
		}
		text, err := fs.ReadFile(dir, e.Name())
		if err != nil {
			return err
		}
		switch spdx, allowed := classify(string(text)); {
		case spdx == "":
			return fmt.Errorf("%s: unknown license", e.Name())
		case !allowed:
			return fmt.Errorf("%s: %s is not among the licenses we ship", e.Name(), spdx)
		}
		texts++
	}
	if texts == 0 {
		return errors.New("no license text")
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

// Command mutants proves that the guards of the code are held by tests: it takes each guard
// of mutants.yaml away, one at a time, and runs the test that must then turn red. The tree
// is not touched: the changed file is laid over it for one build.
//
// usage: go run ./tests/mutants [-part N/M] [-only REGEXP]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// mutant is one guard and how to take it away.
type mutant struct {
	// Name is short; Guard says what the guard is for.
	Name  string `yaml:"name"`
	Guard string `yaml:"guard"`
	// Old, which must be in File exactly once, is replaced by New.
	File string `yaml:"file"`
	Old  string `yaml:"old"`
	New  string `yaml:"new"`
	// Test is the name of the test that must fail, in Package.
	Test    string `yaml:"test"`
	Package string `yaml:"package"`
	// Tags are build tags beside those of all tests.
	Tags string `yaml:"tags"`
	// Race runs the test under the race detector.
	Race bool `yaml:"race"`
}

// allTags are those of the Makefile: with others all that is tested would be compiled once more.
const allTags = "libvirt_dlopen,grpcnotrace,osusergo"

const table = "tests/mutants/mutants.yaml"

func main() {
	part := flag.String("part", "1/1", "run part N of M: every M-th mutant")
	only := flag.String("only", "", "run the mutants whose name matches")
	flag.Parse()
	failed, err := run(*part, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

func run(part, only string) (failed int, err error) {
	var n, m int
	if _, err := fmt.Sscanf(part, "%d/%d", &n, &m); err != nil || m < 1 || n < 0 {
		return 0, fmt.Errorf("-part %q is not N/M", part)
	}
	wanted, err := regexp.Compile(only)
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile(table)
	if err != nil {
		return 0, fmt.Errorf("%w (run from the top of the checkout)", err)
	}
	var all []mutant
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&all); err != nil {
		return 0, fmt.Errorf("%s: %w", table, err)
	}
	passed := 0
	for i, mu := range all {
		if i%m != n%m || !wanted.MatchString(mu.Name) {
			continue
		}
		begin := time.Now()
		verdict := mu.try()
		took := time.Since(begin).Round(100 * time.Millisecond)
		if verdict != nil {
			failed++
			fmt.Printf("ALIVE  %-32s %7s  %v\n", mu.Name, took, verdict)
			continue
		}
		passed++
		fmt.Printf("killed %-32s %7s  %s\n", mu.Name, took, mu.Test)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	return failed, nil
}

// try returns nil if the test turned red without the guard, and only then.
func (mu mutant) try() error {
	text, err := os.ReadFile(mu.File)
	if err != nil {
		return err
	}
	if c := bytes.Count(text, []byte(mu.Old)); c != 1 {
		return fmt.Errorf("the text to replace is in %s %d times, want once", mu.File, c)
	}
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	changed := filepath.Join(dir, filepath.Base(mu.File))
	if err := os.WriteFile(changed, bytes.Replace(text, []byte(mu.Old), []byte(mu.New), 1), 0o600); err != nil {
		return err
	}
	abs, err := filepath.Abs(mu.File)
	if err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{abs: changed}})
	if err != nil {
		return err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return err
	}
	if out, err := mu.goTest(); err != nil || !strings.Contains(out, "--- PASS: "+mu.Test) {
		return fmt.Errorf("the test does not pass with the guard in place: %w\n%s", err, out)
	}
	return judge(mu.goTest("-overlay", overlayFile))(mu.Test)
}

// judge reads the run without the guard.
func judge(out string, err error) func(test string) error {
	return func(test string) error {
		switch {
		case err == nil:
			return errors.New("the test passes without the guard")
		case strings.Contains(out, "[build failed]"), strings.Contains(out, "[setup failed]"):
			return fmt.Errorf("the mutant does not build:\n%s", out)
		case strings.Contains(out, "--- FAIL: "+test), strings.Contains(out, "panic: "), strings.Contains(out, "DATA RACE"):
			return nil
		}
		return fmt.Errorf("another test than %s failed:\n%s", test, out)
	}
}

func (mu mutant) goTest(extra ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	tags := allTags
	if mu.Tags != "" {
		tags += "," + mu.Tags
	}
	args := append([]string{"test", "-v", "-tags", tags, "-timeout", "120s"}, extra...)
	if mu.Race {
		args = append(args, "-race")
	}
	args = append(args, "-run", "^"+mu.Test+"$", "./"+mu.Package)
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	return string(out), err
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// The marks between which a page keeps the last run.
const (
	docsBegin = "<!-- what `make bench ARGS=-docs` writes begins here -->\n"
	docsEnd   = "<!-- and ends here -->\n"
)

// page is a page in Markdown that keeps the last run between marks.
type page struct{ path, head, tail string }

// read takes what is around the marks. A page that is not there yet has a title only.
func (p *page) read(path string) error {
	p.path, p.head, p.tail = path, "# Benchmarks\n\n", ""
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	head, rest, begins := strings.Cut(string(text), docsBegin)
	_, tail, ends := strings.Cut(rest, docsEnd)
	if !begins || !ends {
		return fmt.Errorf("%s has no place for the table: %q and %q", path, docsBegin, docsEnd)
	}
	p.head, p.tail = head, tail
	return nil
}

// write puts a run's report between the marks.
func (p *page) write(report string) error {
	return os.WriteFile(p.path, []byte(p.head+docsBegin+report+docsEnd+p.tail), 0o644) //nolint:gosec // a page for everybody
}

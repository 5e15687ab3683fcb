// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"flag"
	"os"
	"regexp"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

var (
	pattern = flag.String("run", "", "only measurements whose name matches this regular expression")
	count   = flag.Int("n", 0, "samples per measurement, instead of each one's own number")
	docs    = flag.Bool("docs", false, "put the table into docs/benchmarks.md")
)

func TestMain(m *testing.M) {
	flag.Parse()
	harness.MainWithKubelet(m)
}

// TestBench fails for what went wrong, never for a figure.
func TestBench(t *testing.T) {
	o := Options{N: *count, Docs: *docs, Repo: harness.Repo(), Out: os.Stdout}
	if *pattern != "" {
		o.Run = regexp.MustCompile(*pattern)
	}
	Run(t, o)
}

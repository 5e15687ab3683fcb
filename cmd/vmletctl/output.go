// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// format is how a result is written.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

var formats = []string{string(formatTable), string(formatJSON), string(formatYAML)}

// String, Set and Type make a format a flag.
func (f *format) String() string { return string(*f) }

// Set takes one of formats.
func (f *format) Set(s string) error {
	if !slices.Contains(formats, s) {
		return fmt.Errorf("it is none of %s", strings.Join(formats, ", "))
	}
	*f = format(s)
	return nil
}

// Type is what the help shows for the value.
func (*format) Type() string { return "FORMAT" }

// completeFormats offers the formats to the shell.
func completeFormats(root *cobra.Command) {
	err := root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // there is no such flag: a mistake in this program
	}
}

// print writes a result: v, or for people what table writes. Cells end with tabs.
func (a *app) print(v any, table func(w io.Writer)) error {
	var text []byte
	var err error
	switch a.output {
	case formatJSON:
		if text, err = json.MarshalIndent(v, "", "  "); err == nil {
			text = append(text, '\n')
		}
	case formatYAML:
		text, err = yaml.Marshal(v)
	case formatTable:
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		table(w)
		return w.Flush()
	}
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

// row writes one row of a table.
func row(w io.Writer, cells ...string) {
	for i, cell := range cells {
		if cell == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

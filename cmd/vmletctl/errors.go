// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes, as the help of the root command tells them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line that cannot be carried out.
type usageError struct {
	command string
	err     error
}

// Error names the help that says what would be right.
func (e usageError) Error() string { return fmt.Sprintf("%s; see %s --help", e.err, e.command) }

// Unwrap is errors.Is's.
func (e usageError) Unwrap() error { return e.err }

// subcommand refuses what is no subcommand of a command that does nothing itself.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
		text += ", did you mean " + strings.Join(meant, " or ") + "?"
	}
	return errors.New(text)
}

// exitError is an exit code that is not vmletctl's own. Nothing is printed for it.
type exitError int

// Error is for whoever prints it all the same.
func (e exitError) Error() string { return fmt.Sprintf("the command exited with %d", int(e)) }

// exitCode says on one line what went wrong.
func (a *app) exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	fmt.Fprintln(a.err, "vmletctl:", oneLine(err.Error()))
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// oneLine joins the lines of an error, such as those of errors.Join.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "; ")
}

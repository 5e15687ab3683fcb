// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"

	"github.com/vmlet/vmlet/pkg/nearest"
)

// unknownKey says what a key might have meant. A word that shares less than half with
// every key was no slip, and gets the list.
func unknownKey(key string, known []string) string {
	if best, changes := nearest.Word(key, known); changes <= len(key)/2 {
		return fmt.Sprintf("unknown key; did you mean %q?", best)
	}
	return "unknown key; known here: " + strings.Join(known, ", ")
}

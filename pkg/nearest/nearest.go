// SPDX-License-Identifier: Apache-2.0

// Package nearest finds the word that somebody probably meant.
package nearest

import "strings"

// Word returns the candidate that takes the fewest changes of one byte to get to,
// upper and lower case being equal, and how many; the first one if several do, "" if
// there is none.
func Word(word string, candidates []string) (best string, changes int) {
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); best == "" || d < changes {
			best, changes = c, d
		}
	}
	return best, changes
}

// distance is Levenshtein's: how many bytes to add, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // from what is read of a to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// SPDX-License-Identifier: Apache-2.0

package annotations

// nearest returns the known key that takes the fewest changes of one character to get to.
func nearest(name string) string {
	name = shorten(name)
	best, least := "", 0
	for _, k := range keys {
		if d := distance(name, k.Name); best == "" || d < least {
			best, least = k.Name, d
		}
	}
	return best
}

// distance is Levenshtein's, in bytes.
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

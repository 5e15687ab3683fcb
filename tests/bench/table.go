// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"strings"
)

// table is the results as a table in Markdown.
func table(results []Result) string {
	rows := [][]string{{"name", "unit", "n", "p50", "p99", "floor p50", "ratio", "goal", "", "also seen"}}
	for _, r := range results {
		floor, of := "–", "–"
		if r.FloorP50 != nil {
			floor, of = figure(*r.FloorP50), fmt.Sprintf("%.2f", *r.Ratio)
		}
		text, met := verdict(r)
		rows = append(rows, []string{r.Name, r.Unit, fmt.Sprint(r.N), figure(r.P50), figure(r.P99), floor, of, text, met, r.note})
	}
	return format(rows)
}

// format pads the cells, so that the table also reads as plain text.
func format(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var out strings.Builder
	line := func(row []string, fill string) {
		out.WriteString("|")
		for i, cell := range row {
			padding := strings.Repeat(fill, widths[i]-len([]rune(cell)))
			out.WriteString(" " + cell + padding + " |")
		}
		out.WriteString("\n")
	}
	line(rows[0], " ")
	line(make([]string, len(widths)), "-")
	for _, row := range rows[1:] {
		line(row, " ")
	}
	return out.String()
}

// figure writes a value with about three digits.
func figure(v float64) string {
	switch abs := math.Abs(v); {
	case abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

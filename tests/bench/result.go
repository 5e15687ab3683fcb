// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Result is one measurement as it stands in out/bench.json. Times are milliseconds.
type Result struct {
	Name string  `json:"name"`
	Unit string  `json:"unit"`
	N    int     `json:"n"`
	P50  float64 `json:"p50"`
	// P99 is the bad end: where more is better (MB/s), 99 % of the samples are not below it.
	P99 float64 `json:"p99"`
	// FloorP50 and Ratio (P50 / FloorP50) are null for what has no floor.
	FloorP50 *float64 `json:"floor_p50"`
	Ratio    *float64 `json:"ratio"`

	// note says on the table's line what else was seen.
	note string
}

// The units.
const (
	unitMS  = "ms"
	unitMiB = "MiB"
	unitMBs = "MB/s"
	// unitPercent is of one core.
	unitPercent = "%"
)

// newResult sums samples up; floor is nil for none.
func newResult(name, unit string, values, floor samples) Result {
	bad := 0.99
	if unit == unitMBs {
		bad = 0.01
	}
	r := Result{Name: name, Unit: unit, N: len(values), P50: values.at(0.5), P99: values.at(bad)}
	if len(floor) > 0 {
		floorP50 := floor.at(0.5)
		ratio := r.P50 / floorP50
		r.FloorP50, r.Ratio = &floorP50, &ratio
	}
	return r
}

// writeJSON writes the results as one list.
func writeJSON(path string, results []Result) error {
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a report
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644) //nolint:gosec // a report
}

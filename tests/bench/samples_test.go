// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestQuantilesAreMeasuredValues(t *testing.T) {
	var hundred samples
	for i := 100; i > 0; i-- {
		hundred = append(hundred, float64(i))
	}
	for _, tc := range []struct {
		of   samples
		q    float64
		want float64
	}{
		{samples{7}, 0.5, 7},
		{samples{7}, 0.99, 7},
		{samples{3, 1, 2}, 0.5, 2},
		{samples{4, 1, 3, 2}, 0.5, 2},
		{samples{1, 2, 3}, 0.99, 3},
		{samples{1, 2, 3}, 0.01, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
	} {
		if got := tc.of.at(tc.q); got != tc.want {
			t.Errorf("quantile %v of %v = %v, want %v", tc.q, tc.of, got, tc.want)
		}
	}
	if got := (samples{}).at(0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing = %v", got)
	}
}

func TestP99IsTheBadEndOfAThroughput(t *testing.T) {
	values := samples{100, 300, 200}
	if r := newResult("x", unitMBs, values, nil); r.P99 != 100 {
		t.Errorf("p99 of a throughput = %v", r.P99)
	}
	if r := newResult("x", unitMS, values, nil); r.P99 != 300 {
		t.Errorf("p99 of a time = %v", r.P99)
	}
}

func TestVerdict(t *testing.T) {
	floor := samples{100}
	for _, tc := range []struct {
		result Result
		want   string
	}{
		{newResult("pod_start_seq", unitMS, samples{110}, floor), "met"},
		{newResult("pod_start_seq", unitMS, samples{111}, floor), "**missed**"},
		{newResult("stop_graceful", unitMS, samples{10, 251}, floor), "**missed**"},
		{newResult("pull_throughput", unitMBs, samples{1}, floor), "–"},
	} {
		if _, got := verdict(tc.result); got != tc.want {
			t.Errorf("verdict on %s with %v: %q, want %q", tc.result.Name, tc.result.P50, got, tc.want)
		}
	}
}

func TestEveryNameHasAGoalOrNone(t *testing.T) {
	known := map[string]bool{}
	for _, s := range scenarios {
		for _, name := range s.names {
			known[name] = true
		}
	}
	for name := range goals {
		if !known[name] {
			t.Errorf("the goal of %s belongs to nothing that is measured", name)
		}
	}
}

func TestJSONIsAListWithNullForWhatHasNoFloor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out", "bench.json")
	results := []Result{newResult("a", unitMS, samples{2}, samples{1}), newResult("b", unitMiB, samples{3}, nil)}
	if err := writeJSON(path, results); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0]["ratio"] != 2.0 || got[1]["ratio"] != nil || got[1]["floor_p50"] != nil {
		t.Errorf("%s", data)
	}
	for _, key := range []string{"name", "unit", "n", "p50", "p99", "floor_p50", "ratio"} {
		if _, ok := got[1][key]; !ok {
			t.Errorf("no %q in %s", key, data)
		}
	}
}

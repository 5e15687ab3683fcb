// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// metricsAddress is where the node serves its metrics: in a network namespace that is ours.
const metricsAddress = "127.0.0.1:9420"

// total is the sum of a histogram: how often, and how long altogether.
type total struct {
	count float64
	took  time.Duration
}

// mean is 0 for what never happened.
func (t total) mean() time.Duration {
	if t.count == 0 {
		return 0
	}
	return time.Duration(float64(t.took) / t.count)
}

var histogramLine = regexp.MustCompile(`^(\w+)_(sum|count)\{(.*)\} (\S+)$`)

// readTotals reads the sums of one of the daemon's histograms, by the value of a label,
// whatever the other labels say.
func readTotals(t *testing.T, histogram, label string) map[string]total {
	t.Helper()
	res, err := http.Get("http://" + metricsAddress + "/metrics") //nolint:noctx // on loopback, answered from memory
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	value := regexp.MustCompile(label + `="([^"]*)"`)
	totals := map[string]total{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		m := histogramLine.FindStringSubmatch(lines.Text())
		if len(m) == 0 || m[1] != histogram {
			continue
		}
		which := value.FindStringSubmatch(m[3])
		v, err := strconv.ParseFloat(m[4], 64)
		if which == nil || err != nil {
			t.Fatalf("metrics: %q", lines.Text())
		}
		sum := totals[which[1]]
		if m[2] == "count" {
			sum.count += v
		} else {
			sum.took += time.Duration(v * float64(time.Second))
		}
		totals[which[1]] = sum
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return totals
}

// since returns what was added to totals, by label.
func since(before, after map[string]total) map[string]total {
	added := map[string]total{}
	for name, a := range after {
		b := before[name]
		if a.count > b.count {
			added[name] = total{a.count - b.count, a.took - b.took}
		}
	}
	return added
}

// all adds totals up.
func all(totals map[string]total) (sum total) {
	for _, t := range totals {
		sum.count += t.count
		sum.took += t.took
	}
	return sum
}

// sentence lists totals as "name 1.2 ms", the longest first, as means per n.
func sentence(totals map[string]total, n int) string {
	var names []string
	for name := range totals {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(totals[b].took - totals[a].took) })
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = name + " " + figure(milliseconds(totals[name].took)/float64(n))
	}
	return strings.Join(parts, ", ")
}

// The daemon's histograms.
const (
	libvirtCalls = "vmlet_libvirt_call_duration_seconds"
	operations   = "vmlet_operation_duration_seconds"
	rpcs         = "vmlet_rpc_duration_seconds"
)

// SPDX-License-Identifier: Apache-2.0

package bench

import "fmt"

// goal is what a measurement is held against.
type goal struct {
	// of picks the figure; a figure of at most limit meets the goal.
	of    func(Result) float64
	limit float64
	text  string
}

func ofRatio(r Result) float64 { return *r.Ratio }
func ofP50(r Result) float64   { return r.P50 }
func ofP99(r Result) float64   { return r.P99 }

func ratio(limit float64) goal { return goal{ofRatio, limit, fmt.Sprintf("ratio ≤ %.2f", limit)} }

func p99(limit float64) goal {
	return goal{ofP99, limit, fmt.Sprintf("p99 ≤ %g %s", limit, unitMS)}
}

func p50(limit float64, unit string) goal {
	return goal{ofP50, limit, fmt.Sprintf("p50 ≤ %g %s", limit, unit)}
}

// goals by the name of the measurement. What is not here has none.
var goals = map[string]goal{
	"pod_start_seq":             ratio(1.10),
	"pod_start_par8":            ratio(1.10),
	"ready_seq":                 p99(6000),
	"stop_graceful":             p99(250),
	"stop_forced":               ratio(1.10),
	"list_sandboxes_1000":       p99(5),
	"list_containers_1000":      p99(5),
	"sandbox_status_1000":       p99(5),
	"daemon_rss_0_vms":          p50(40, unitMiB),
	"daemon_rss_per_vm":         p50(1, unitMiB),
	"recover_50_vms":            p99(1000),
	"kubelet_50_vms_daemon_cpu": p50(2, unitPercent),
	"exec_sync_true":            ratio(2),
	"event_delay":               p99(50),
	"snapshot_create_256":       ratio(1.15),
	"snapshot_pause_256":        ratio(1.15),
	"snapshot_restore_256":      ratio(1.15),
	"snapshot_create_1024":      ratio(1.15),
	"snapshot_pause_1024":       ratio(1.15),
	"snapshot_restore_1024":     ratio(1.15),
	"nic_attach":                ratio(1.15),
	"nic_detach":                ratio(1.15),
	"disk_attach":               ratio(1.15),
	"vcpu_add":                  ratio(1.15),
}

// verdict returns the goal of a result and whether it was met, both "–" without one.
func verdict(r Result) (text, met string) {
	g, ok := goals[r.Name]
	switch {
	case !ok:
		return "–", "–"
	case g.of(r) <= g.limit:
		return g.text, "met"
	default:
		return g.text, "**missed**"
	}
}

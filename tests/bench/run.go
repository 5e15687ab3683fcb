// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Options say what to run.
type Options struct {
	// Run picks measurements by name; nil for all.
	Run *regexp.Regexp
	// N is the number of samples, 0 for each measurement's own.
	N int
	// Docs puts the report into docs/benchmarks.md.
	Docs bool
	// Repo is the top of the checkout; Out is where the report is printed.
	Repo string
	Out  io.Writer
}

// scenario takes measurements that are of one piece.
type scenario struct {
	names []string
	// n is how many samples it takes of its own accord.
	n   int
	run func(t *testing.T, n int) outcome
}

// outcome is what a scenario has found: results, and paragraphs for the report.
type outcome struct {
	results []Result
	remarks []string
}

var scenarios = []scenario{
	{[]string{"pod_start_seq", "stop_forced"}, 25, podsOneByOne},
	{[]string{"pod_start_par8"}, 6, podsInParallel},
	{[]string{"ready_seq", "stop_graceful", "event_delay"}, 10, readyPods},
	{[]string{"exec_sync_true", "exec_50_parallel"}, 200, execs},
	{[]string{"list_sandboxes_10", "list_containers_10"}, 500, lists(10)},
	{[]string{"list_sandboxes_100", "list_containers_100"}, 500, lists(100)},
	{[]string{"list_sandboxes_1000", "list_containers_1000", "sandbox_status_1000"}, 500, lists(1000)},
	{[]string{"daemon_rss_0_vms", "daemon_rss_10_vms", "daemon_rss_50_vms", "daemon_rss_per_vm", "recover_50_vms"}, 10, manyVMs},
	{[]string{"kubelet_pod_ready", "kubelet_pod_gone"}, 6, podsUnderKubelet},
	{[]string{"kubelet_50_vms_daemon_cpu", "kubelet_50_vms_relist", "kubelet_50_vms_daemon_cpu_events", "kubelet_50_vms_relist_events"}, 2, manyUnderKubelet},
	{[]string{"pull_throughput"}, 8, pulls},
	{[]string{"log_throughput"}, 3, logThroughput},
	{[]string{"portforward_throughput"}, 5, portForwards},
	{[]string{"attach_20_clients_rss"}, 5, attachedMemory},
	{[]string{"snapshot_create_256", "snapshot_pause_256", "snapshot_restore_256"}, 8, snapshots(256)},
	{[]string{"snapshot_create_1024", "snapshot_pause_1024", "snapshot_restore_1024"}, 8, snapshots(1024)},
	{[]string{"nic_attach", "nic_detach"}, 15, nics},
	{[]string{"disk_attach", "nic_attach_configured"}, 15, disks},
	{[]string{"vcpu_add"}, 10, vcpus},
}

// Run measures, prints the report and writes out/bench.json.
func Run(t *testing.T, o Options) {
	var docs *page
	if o.Docs {
		if o.Run != nil {
			t.Fatal("-docs is for a whole run: with -run the page would lose the rest of its table")
		}
		// Before all else: a run takes minutes.
		docs = new(page)
		must(t, docs.read(filepath.Join(o.Repo, "docs", "benchmarks.md")))
	}
	before := describeMachine(t)
	var all outcome
	for _, s := range scenarios {
		if !slices.ContainsFunc(s.names, o.wants) {
			continue
		}
		n := s.n
		if o.N > 0 {
			n = o.N
		}
		t.Run(s.names[0], func(t *testing.T) {
			fmt.Fprintf(o.Out, "%s: n = %d\n", strings.Join(s.names, ", "), n) //nolint:errcheck // to a terminal or a buffer
			got := s.run(t, n)
			all.remarks = append(all.remarks, got.remarks...)
			for _, r := range got.results {
				if o.wants(r.Name) {
					all.results = append(all.results, r)
				}
			}
		})
	}
	if t.Failed() || len(all.results) == 0 {
		t.Fatal("nothing to report")
	}
	report := table(all.results) + "\n" + before + "\n" + strings.Join(all.remarks, "\n")
	fmt.Fprint(o.Out, "\n", report) //nolint:errcheck // to a terminal or a buffer
	if err := writeJSON(filepath.Join(o.Repo, "out", "bench.json"), all.results); err != nil {
		t.Fatal(err)
	}
	if docs != nil {
		must(t, docs.write(report))
	}
}

func (o Options) wants(name string) bool { return o.Run == nil || o.Run.MatchString(name) }

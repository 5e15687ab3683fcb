// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// PodStats is the part of a pod in kubelet's /stats/summary that tests look at. Sizes are bytes.
type PodStats struct {
	PodRef     struct{ Name string }
	CPU        CPUStats
	Memory     MemoryStats
	Network    *NetworkStats
	Containers []ContainerStats
}

// ContainerStats is a container's part.
type ContainerStats struct {
	Name         string
	CPU          CPUStats
	Memory       MemoryStats
	Rootfs, Logs struct {
		Time      time.Time
		UsedBytes uint64
	}
}

// CPUStats is CPU time since the VM was started, and the rate of late.
type CPUStats struct {
	Time                                 time.Time
	UsageCoreNanoSeconds, UsageNanoCores uint64
}

// MemoryStats is memory at a time.
type MemoryStats struct {
	Time                                                  time.Time
	UsageBytes, WorkingSetBytes, RSSBytes, AvailableBytes uint64
}

// NetworkStats is the pod's interface, as the guest sees it.
type NetworkStats struct {
	Time             time.Time
	Name             string
	RxBytes, TxBytes uint64
}

// VM is the pod's one container; its zero value if there is none yet.
func (p PodStats) VM() ContainerStats {
	for _, c := range p.Containers {
		if c.Name == "vm" {
			return c
		}
	}
	return ContainerStats{}
}

// Stats are a pod's, once its VM was sampled later than that.
func (k *Kubelet) Stats(name string, after time.Time) (pod PodStats) {
	k.t.Helper()
	k.Node.Eventually(2*time.Minute, func() (err error) {
		pod, err = k.podStats(name)
		if at := pod.VM().CPU.Time; err == nil && !at.After(after) {
			err = fmt.Errorf("the sample of %s is of %s, not later than %s", name, at, after)
		}
		if err != nil {
			time.Sleep(200 * time.Millisecond) // it costs kubelet something
		}
		return err
	})
	return pod
}

func (k *Kubelet) podStats(name string) (PodStats, error) {
	body, err := k.Get("/stats/summary")
	if err != nil {
		return PodStats{}, err
	}
	var summary struct{ Pods []PodStats }
	if err := json.Unmarshal([]byte(body), &summary); err != nil { //nolint:musttag // names that differ in case only are found
		return PodStats{}, err
	}
	for _, pod := range summary.Pods {
		if pod.PodRef.Name == name+"-"+kubeletNode {
			return pod, nil
		}
	}
	return PodStats{}, fmt.Errorf("%s is not in the summary", name)
}

// Metric is the value of a pod's metric on a page of kubelet's, such as "/metrics/resource". The first one counts whose
// labels have all these texts.
func (k *Kubelet) Metric(page, metric, pod string, labels ...string) (float64, error) {
	text, err := k.Get(page)
	if err != nil {
		return 0, err
	}
	labels = append(labels, fmt.Sprintf("pod=%q", pod+"-"+kubeletNode), `namespace="default"`)
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, "{")
		has, value, found := strings.Cut(rest, "}")
		if name != metric || !found || !containsAll(has, labels) {
			continue
		}
		return strconv.ParseFloat(strings.Fields(value)[0], 64) // a time may follow
	}
	return 0, errors.New("no " + metric + " of " + pod + " in " + page)
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
)

// BenchmarkAgainstBareCNI times what a sandbox's network takes and, in turns with it, what
// `ip netns add` and the same plugins under libcni's own runner take. Medians, in ms.
//
//	go test -tags integration -run '^$' -bench BareCNI -benchtime 20x ./pkg/network
func BenchmarkAgainstBareCNI(b *testing.B) {
	h := newHost(b)
	bare := bareCNI{libcni.NewCNIConfigWithCacheDir(h.conf.BinDirs, b.TempDir(), nil), h}
	bare.add(b, "warm-up")
	bare.del(b, "warm-up")
	watch := stopwatch{}
	for b.Loop() {
		watch.run("bare-add", func() { bare.add(b, "bare") })
		watch.run("bare-del", func() { bare.del(b, "bare") })

		req := request()
		watch.run("setup", func() {
			if _, err := h.net.Setup(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		})
		n, err := h.net.Setup(b.Context(), request())
		if err != nil {
			b.Fatal(err)
		}
		h.startQEMU(b, n)
		watch.run("wire", func() { err = h.net.Wire(b.Context(), n) })
		if err != nil {
			b.Fatal(err)
		}
		h.startQEMU(b, n)
		watch.run("wire-again", func() { err = h.net.Wire(b.Context(), n) })
		if err != nil {
			b.Fatal(err)
		}
		watch.run("stats", func() { _, err = h.net.Stats(b.Context(), n) })
		if err != nil {
			b.Fatal(err)
		}
		watch.run("ready", func() { err = h.net.Ready(b.Context()) })
		if err != nil {
			b.Fatal(err)
		}
		watch.run("check", func() { err = h.net.Check(b.Context(), n) })
		if err != nil {
			b.Fatal(err)
		}
		h.stopQEMU(b, n)
		h.mustTeardown(b, n.Request)
		watch.run("teardown", func() { h.mustTeardown(b, req) })
	}
	for name, times := range watch {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, name+"-ms")
	}
	b.ReportMetric(0, "ns/op")
}

type stopwatch map[string][]time.Duration

func (s stopwatch) run(name string, do func()) {
	begin := time.Now()
	do()
	s[name] = append(s[name], time.Since(begin))
}

// bareCNI is what cnitool does, and the namespace for it.
type bareCNI struct {
	cni *libcni.CNIConfig
	h   *host
}

func (c bareCNI) args(b *testing.B, name string) (*libcni.NetworkConfigList, *libcni.RuntimeConf) {
	b.Helper()
	list, err := chooseConfig(c.h.conf.ConfDir)
	if err != nil {
		b.Fatal(err)
	}
	return list, &libcni.RuntimeConf{ContainerID: name, NetNS: "/run/netns/" + name, IfName: "eth0"}
}

func (c bareCNI) add(b *testing.B, name string) {
	b.Helper()
	if out, err := exec.CommandContext(b.Context(), "ip", "netns", "add", name).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	list, rt := c.args(b, name)
	if _, err := c.cni.AddNetworkList(b.Context(), list, rt); err != nil {
		b.Fatal(err)
	}
}

func (c bareCNI) del(b *testing.B, name string) {
	b.Helper()
	list, rt := c.args(b, name)
	if err := c.cni.DelNetworkList(b.Context(), list, rt); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.CommandContext(b.Context(), "ip", "netns", "del", name).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
}

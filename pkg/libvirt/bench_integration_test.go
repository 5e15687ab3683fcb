// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"testing"
	"time"

	virt "libvirt.org/go/libvirt"
)

// quickly runs one benchmark body per iteration on a machine that runs for a moment.
func quickly(b *testing.B, prepare, body func(*guest)) {
	b.Helper()
	h := newHypervisor(b, testOwner)
	g := newGuest(b, h, record(b, h))
	for b.Loop() {
		b.StopTimer()
		prepare(g)
		b.StartTimer()
		body(g)
	}
}

// running starts the guest and lets it get into its firmware.
func running(g *guest) {
	g.start()
	time.Sleep(500 * time.Millisecond)
}

func BenchmarkDefine(b *testing.B) {
	quickly(b, func(*guest) {}, func(g *guest) { g.must(g.h.Define(b.Context(), g.Machine)) })
}

func BenchmarkStart(b *testing.B) {
	quickly(b,
		func(g *guest) { g.must(g.h.Destroy(b.Context(), g.id)) },
		func(g *guest) { g.must(g.h.Start(b.Context(), g.id)) })
}

func BenchmarkDestroy(b *testing.B) {
	quickly(b, running, func(g *guest) { g.must(g.h.Destroy(b.Context(), g.id)) })
}

// The floor of BenchmarkDestroy.
func BenchmarkPlainDestroy(b *testing.B) {
	quickly(b, running, func(g *guest) {
		g.must(g.h.with(b.Context(), "destroy domain", g.id, func(dom *virt.Domain) error { return dom.Destroy() }))
	})
}

func BenchmarkLookAtRunningDomain(b *testing.B) {
	h := newHypervisor(b, testOwner)
	g := newGuest(b, h, record(b, h))
	running(g)
	for name, look := range map[string]func() error{
		"Domain":  func() error { _, err := h.Domain(b.Context(), g.id); return err },
		"Domains": func() error { _, err := h.Domains(b.Context()); return err },
		"PID":     func() error { _, err := h.PID(b.Context(), g.id); return err },
		"Ready":   func() error { return h.Ready(b.Context()) },
		"Stats":   func() error { _, err := h.Stats(b.Context()); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				g.must(look())
			}
		})
	}
}

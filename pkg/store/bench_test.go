// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/paths"
)

// filled opens a store with n realistic sandboxes.
func filled(b *testing.B, n int, opts Options) *Store {
	b.Helper()
	s, err := Open(b.Context(), paths.Node{Root: filepath.Join(b.TempDir(), "root")}, Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	s.db.NoSync = opts.NoSync
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			v := fullSandbox()
			v.ID = fmt.Sprintf("%032x", i)
			if err := s.sandboxes.Create(v.ID, v, "bench"); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	return s
}

func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			s := filled(b, 100, Options{})
			var mu sync.Mutex
			var took []time.Duration
			var all sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				all.Go(func() {
					var mine []time.Duration
					for i := w; i < b.N; i += writers {
						begun := time.Now()
						if _, err := s.sandboxes.Update(fmt.Sprintf("%032x", w), "bench", count); err != nil {
							b.Error(err)
						}
						mine = append(mine, time.Since(begun))
					}
					mu.Lock()
					defer mu.Unlock()
					took = append(took, mine...)
				})
			}
			all.Wait()
			report(b, took)
		})
	}
}

func BenchmarkList(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint("records=", n), func(b *testing.B) {
			s := filled(b, n, Options{NoSync: true})
			took := make([]time.Duration, 0, b.N)
			b.ReportAllocs()
			for b.Loop() {
				begun := time.Now()
				if got := len(s.sandboxes.List()); got != n {
					b.Fatal(got)
				}
				took = append(took, time.Since(begun))
			}
			report(b, took)
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint("records=", n), func(b *testing.B) {
			s := filled(b, n, Options{NoSync: true})
			id := fmt.Sprintf("%032x", n/2)
			for b.Loop() {
				if _, err := s.sandboxes.Get(id); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func report(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics are the calls by method and code. Methods are those of registered services
// only, so their number is bounded.
type metrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(registry *prometheus.Registry) (*metrics, error) {
	m := &metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vmlet_rpc_total",
			Help: "gRPC calls that have ended, by method and status code.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "vmlet_rpc_duration_seconds",
			Help: "How long gRPC calls took, by method and status code.",
			// From a list out of memory to a stop with a long grace period.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method", "code"}),
	}
	return m, errors.Join(registry.Register(m.total), registry.Register(m.duration))
}

func (m *metrics) observe(method string, code codes.Code, took time.Duration) {
	m.total.WithLabelValues(method, code.String()).Inc()
	m.duration.WithLabelValues(method, code.String()).Observe(took.Seconds())
}

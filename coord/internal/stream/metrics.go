package stream

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the streams tell of themselves.
type metrics struct {
	framesIn, framesOut, requests prometheus.Counter
	perFrame                      prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer, s *Server) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m := &metrics{
		framesIn:  counter("coord_stream_frames_received_total", "Frames received on native streams."),
		framesOut: counter("coord_stream_frames_sent_total", "Frames sent on native streams."),
		requests:  counter("coord_stream_requests_total", "Requests received on native streams."),
		perFrame: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "coord_stream_requests_per_frame", Help: "Requests in a frame that had any.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.framesIn, m.framesOut, m.requests, m.perFrame,
		gauge("coord_stream_streams", "Native streams that are open.", func() float64 {
			return float64(s.opts.Streams.count())
		}),
		gauge("coord_stream_sessions", "Sessions attached to this member's native streams.", func() float64 {
			return float64(s.sessions.Load())
		}),
	} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

// frame counts a frame that came, with so many requests.
func (m *metrics) frame(requests int) {
	m.framesIn.Inc()
	if requests > 0 {
		m.requests.Add(float64(requests))
		m.perFrame.Observe(float64(requests))
	}
}

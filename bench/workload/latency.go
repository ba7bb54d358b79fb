package workload

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are recorded in microseconds up to ten minutes with an error of at most one percent.
const (
	lowestLatency  = 1
	highestLatency = int64(10 * time.Minute / time.Microsecond)
	latencyDigits  = 2
)

// Latency is a histogram of durations. Not safe for concurrent use: every client has its own and they are added up.
type Latency struct {
	h *hdrhistogram.Histogram
}

// NewLatency returns an empty histogram.
func NewLatency() *Latency {
	return &Latency{h: hdrhistogram.New(lowestLatency, highestLatency, latencyDigits)}
}

// Record adds one duration; one outside the range counts as the nearest the histogram can hold.
func (l *Latency) Record(d time.Duration) {
	us := min(max(d.Microseconds(), lowestLatency), highestLatency)
	if err := l.h.RecordValue(us); err != nil {
		panic("record a value inside the histogram's own range: " + err.Error())
	}
}

// Add adds everything other has recorded.
func (l *Latency) Add(other *Latency) { l.h.Merge(other.h) }

// Count returns how many durations were recorded.
func (l *Latency) Count() int64 { return l.h.TotalCount() }

// Quantile returns the duration that percent of those recorded do not exceed, 0 when there is none.
func (l *Latency) Quantile(percent float64) time.Duration {
	return time.Duration(l.h.ValueAtQuantile(percent)) * time.Microsecond
}

package suite

import (
	"testing"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
)

func TestExpectations(t *testing.T) {
	coord := func(clients int, m report.Metric, samples ...float64) report.Record {
		return report.Record{Peer: peers.Coord, Clients: clients, Samples: map[report.Metric][]float64{m: samples}}
	}
	ratio := func(v float64) *report.Ratio { return &report.Ratio{Median: v} }
	for _, c := range []struct {
		name  string
		e     expectation
		rec   report.Record
		ratio *report.Ratio
		want  string
	}{
		{"loaded, short", fasterBy(1.3), coord(64, report.OpsPerSecond, 1), ratio(1.29), "≥1.30 SHORT"},
		{"loaded", fasterBy(1.3), coord(512, report.OpsPerSecond, 1), ratio(1.3), "≥1.30 ok"},
		{"one client", fasterBy(1.3), coord(1, report.OpsPerSecond, 1), ratio(1.01), "≥1.00 ok"},
		{"one client, slower", fasterBy(1.3), coord(1, report.OpsPerSecond, 1), ratio(0.99), "≥1.00 SHORT"},
		{"no etcd", fasterBy(1.3), coord(64, report.OpsPerSecond, 1), nil, ""},
		{"nothing expected", nil, coord(64, report.OpsPerSecond, 1), ratio(0.1), ""},
		{"incomplete", fasterBy(1.3), report.Record{Peer: peers.Coord, Error: "broke"}, ratio(0.1), ""},
		{"the ceiling", fasterBy(1.3), report.Record{Peer: peers.Ceiling}, ratio(0.1), ""},
		{"goroutine each", fewGoroutines, coord(0, report.Goroutines, 100_300), nil, "≤5000 goroutines SHORT"},
		{"goroutine a stream", fewGoroutines, coord(0, report.Goroutines, 350), nil, "≤5000 goroutines ok"},
		{"quick start", startsWithin(time.Second), coord(0, report.FirstRead, 0.4, 0.9, 3), nil, "<1s ok"},
		{"slow start", startsWithin(time.Second), coord(0, report.FirstRead, 0.4, 1.1, 3), nil, "<1s SHORT"},
		{"short gap", shortGap, coord(8, report.GapPerTimeout, 1, 2, 4), nil, "≤2, max ≤4 × ok"},
		{"long median", shortGap, coord(8, report.GapPerTimeout, 1, 2.1, 3), nil, "≤2, max ≤4 × SHORT"},
		{"long once", shortGap, coord(8, report.GapPerTimeout, 1, 1, 4.1), nil, "≤2, max ≤4 × SHORT"},
		{"no failure", noFailedWrite, coord(64, report.FailedWrites, 0, 0), nil, "no failed write ok"},
		{"one failure", noFailedWrite, coord(64, report.FailedWrites, 0, 1), nil, "no failed write SHORT"},
	} {
		if got := c.e.judge(c.rec, c.ratio); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

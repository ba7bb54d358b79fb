package suite

import (
	"math"
	"testing"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
)

func TestExpectations(t *testing.T) {
	coord := func(clients int, m report.Metric, samples ...float64) report.Record {
		return report.Record{Peer: peers.Coord, Clients: clients, Samples: map[report.Metric][]float64{m: samples}}
	}
	etcd := func(v float64) map[string]float64 { return map[string]float64{peers.Etcd: v} }
	both := func(etcd, zooKeeper float64) map[string]float64 {
		return map[string]float64{peers.Etcd: etcd, peers.ZooKeeper: zooKeeper}
	}
	three := func(rec report.Record) report.Record { rec.Members = 3; return rec }
	death := func(ttl float64, grants ...float64) report.Record {
		return report.Record{
			Peer: peers.Coord, Samples: map[report.Metric][]float64{report.TTL: {ttl}, report.GrantAfterKill: grants},
		}
	}
	pairs := atLeast{zooKeeper: 2, zooKeeper3: 3, etcd: 8}.expect
	for _, c := range []struct {
		name  string
		e     expectation
		rec   report.Record
		ratio map[string]float64
		want  string
	}{
		{"loaded, short", fasterBy(1.3), coord(64, report.OpsPerSecond, 1), etcd(1.29), "≥1.30 SHORT"},
		{"loaded", fasterBy(1.3), coord(512, report.OpsPerSecond, 1), etcd(1.3), "≥1.30 ok"},
		{"one client", fasterBy(1.3), coord(1, report.OpsPerSecond, 1), etcd(1.01), "≥1.00 ok"},
		{"one client, slower", fasterBy(1.3), coord(1, report.OpsPerSecond, 1), etcd(0.99), "≥1.00 SHORT"},
		{"no etcd", fasterBy(1.3), coord(64, report.OpsPerSecond, 1), nil, ""},
		{"nothing expected", nil, coord(64, report.OpsPerSecond, 1), etcd(0.1), ""},
		{"incomplete", fasterBy(1.3), report.Record{Peer: peers.Coord, Error: "broke"}, etcd(0.1), ""},
		{"the ceiling", fasterBy(1.3), report.Record{Peer: peers.Ceiling}, etcd(0.1), ""},
		{"stream", pairs, coord(512, report.OpsPerSecond, 1), both(8, 2), "≥8×etcd ≥2×zookeeper ok"},
		{"stream, behind etcd", pairs, coord(512, report.OpsPerSecond, 1), both(7.9, 2), "≥8×etcd ≥2×zookeeper SHORT"},
		{"stream, behind ZooKeeper", pairs, coord(512, report.OpsPerSecond, 1), both(8, 1.9),
			"≥8×etcd ≥2×zookeeper SHORT"},
		{"stream of three", pairs, three(coord(512, report.OpsPerSecond, 1)), both(8, 2.9),
			"≥8×etcd ≥3×zookeeper SHORT"},
		{"stream, one caller", pairs, coord(1, report.OpsPerSecond, 1), both(1, 1), "≥1×etcd ≥1×zookeeper ok"},
		{"stream, one slower caller", pairs, coord(1, report.OpsPerSecond, 1), both(1.1, 0.9),
			"≥1×etcd ≥1×zookeeper SHORT"},
		{"stream, a few callers", pairs, coord(64, report.OpsPerSecond, 1), both(0.1, 0.1), ""},
		{"stream without ZooKeeper", pairs, coord(512, report.OpsPerSecond, 1), etcd(9), "≥8×etcd ok"},
		{"little lost", lossAtMost(5), coord(64, report.WriteLoss, 4, 5, 9), nil, "loss ≤5 % ok"},
		{"much lost", lossAtMost(5), coord(64, report.WriteLoss, 4, 5.1, 9), nil, "loss ≤5 % SHORT"},
		{"granted in time", grantsWithin(time.Second), death(10, 9, 11), nil, "≤TTL+1s ok"},
		{"granted late", grantsWithin(time.Second), death(10, 9, 11.1), nil, "≤TTL+1s SHORT"},
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
		against := func(peer string) *report.Ratio {
			if v, ok := c.ratio[peer]; ok {
				return &report.Ratio{Median: v}
			}
			return nil
		}
		if got := c.e.judge(c.rec, against); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A machine that gets slower from the first rounds with sessions to the last is no loss.
func TestLossIsAgainstBothSides(t *testing.T) {
	var rec report.Record
	addLoss(&rec, []float64{1000, 500}, []float64{900, 1000}, []float64{800, 400})
	if got := rec.Samples[report.WriteLoss]; math.Abs(got[0]) > 0.001 || math.Abs(got[1]-55) > 0.001 {
		t.Errorf("loss is %v, want 0 and 55", got)
	}
}

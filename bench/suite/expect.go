package suite

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
)

// expectation is what this project expects of itself in one row: a short text of it, and whether a record meets it. The
// text is empty where nothing is expected of the record.
type expectation func(rec report.Record, against report.Against) (want string, met bool)

// fallsShort marks what is not as expected.
const fallsShort = "SHORT"

// judge returns the expectation and its verdict as one cell, for records of coord that are complete.
func (e expectation) judge(rec report.Record, against report.Against) string {
	if e == nil || rec.Error != "" || !strings.HasPrefix(rec.Peer, peers.Coord) {
		return ""
	}
	want, met := e(rec, against)
	switch {
	case want == "":
		return ""
	case met:
		return want + " ok"
	default:
		return want + " " + fallsShort
	}
}

// fasterBy expects the ratio to etcd with many clients, and with a few that it is not slower.
func fasterBy(loaded float64) expectation {
	return func(rec report.Record, against report.Against) (string, bool) {
		ratio := against(peers.Etcd)
		if ratio == nil {
			return "", false
		}
		least := loaded
		if rec.Clients < 64 {
			least = 1
		}
		return fmt.Sprintf("≥%.2f", least), ratio.Median >= least
	}
}

// atLeast is how many times faster than the others the native stream shall be with 512 callers and more; with one
// caller it shall not be slower than any of them. Nothing is expected where the peer did not run, or where the figure
// is 0.
type atLeast struct {
	zooKeeper, zooKeeper3 float64 // with one member, and with several
	etcd                  float64
}

func (a atLeast) expect(rec report.Record, against report.Against) (string, bool) {
	least := map[string]float64{peers.Etcd: a.etcd, peers.ZooKeeper: a.zooKeeper}
	if rec.Members > 1 {
		least[peers.ZooKeeper] = a.zooKeeper3
	}
	switch {
	case rec.Clients == 1:
		least = map[string]float64{peers.Etcd: 1, peers.ZooKeeper: 1}
	case rec.Clients < 512:
		return "", false
	}
	var wants []string
	met := true
	for _, peer := range []string{peers.Etcd, peers.ZooKeeper} {
		if ratio := against(peer); ratio != nil && least[peer] > 0 {
			wants = append(wants, fmt.Sprintf("≥%.0f×%s", least[peer], peer))
			met = met && ratio.Median >= least[peer]
		}
	}
	return strings.Join(wants, " "), met
}

// lossAtMost expects that writes lose at most so many percent.
func lossAtMost(percent float64) expectation {
	return func(rec report.Record, _ report.Against) (string, bool) {
		return fmt.Sprintf("loss ≤%.0f %%", percent), report.Median(rec.Samples[report.WriteLoss]) <= percent
	}
}

// grantsWithin expects that nobody waits for a dead holder longer than its TTL and that.
func grantsWithin(more time.Duration) expectation {
	return func(rec report.Record, _ report.Against) (string, bool) {
		most := report.Median(rec.Samples[report.TTL]) + more.Seconds()
		return "≤TTL+" + more.String(), slices.Max(rec.Samples[report.GrantAfterKill]) <= most
	}
}

// fewGoroutines expects that watchers do not have a goroutine each. Streams may, and they are far fewer.
func fewGoroutines(rec report.Record, _ report.Against) (string, bool) {
	const most = 5000
	return fmt.Sprintf("≤%d goroutines", most), slices.Max(rec.Samples[report.Goroutines]) <= most
}

// startsWithin expects a restart to take less than that.
func startsWithin(most time.Duration) expectation {
	return func(rec report.Record, _ report.Against) (string, bool) {
		return "<" + most.String(), report.Median(rec.Samples[report.FirstRead]) < most.Seconds()
	}
}

// shortGap expects a pause of at most twice the election timeout, and never of more than four times.
func shortGap(rec report.Record, _ report.Against) (string, bool) {
	gaps := rec.Samples[report.GapPerTimeout]
	return "≤2, max ≤4 ×", report.Median(gaps) <= 2 && slices.Max(gaps) <= 4
}

// noFailedWrite expects that nobody notices but for the pause.
func noFailedWrite(rec report.Record, _ report.Against) (string, bool) {
	return "no failed write", slices.Max(rec.Samples[report.FailedWrites]) == 0
}

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
// text is empty where nothing is expected of the record. The ratio to etcd is nil where etcd did not run.
type expectation func(rec report.Record, ratio *report.Ratio) (want string, met bool)

// judge returns the expectation and its verdict as one cell, for records of coord that are complete.
func (e expectation) judge(rec report.Record, ratio *report.Ratio) string {
	if e == nil || rec.Error != "" || !strings.HasPrefix(rec.Peer, peers.Coord) {
		return ""
	}
	want, met := e(rec, ratio)
	switch {
	case want == "":
		return ""
	case met:
		return want + " ok"
	default:
		return want + " SHORT"
	}
}

// fasterBy expects the ratio with many clients, and with a few that it is not slower.
func fasterBy(loaded float64) expectation {
	return func(rec report.Record, ratio *report.Ratio) (string, bool) {
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

// fewGoroutines expects that watchers do not have a goroutine each. Streams may, and they are far fewer.
func fewGoroutines(rec report.Record, _ *report.Ratio) (string, bool) {
	const most = 5000
	return fmt.Sprintf("≤%d goroutines", most), slices.Max(rec.Samples[report.Goroutines]) <= most
}

// startsWithin expects a restart to take less than that.
func startsWithin(most time.Duration) expectation {
	return func(rec report.Record, _ *report.Ratio) (string, bool) {
		return "<" + most.String(), report.Median(rec.Samples[report.FirstRead]) < most.Seconds()
	}
}

// shortGap expects a pause of at most twice the election timeout, and never of more than four times.
func shortGap(rec report.Record, _ *report.Ratio) (string, bool) {
	gaps := rec.Samples[report.GapPerTimeout]
	return "≤2, max ≤4 ×", report.Median(gaps) <= 2 && slices.Max(gaps) <= 4
}

// noFailedWrite expects that nobody notices but for the pause.
func noFailedWrite(rec report.Record, _ *report.Ratio) (string, bool) {
	return "no failed write", slices.Max(rec.Samples[report.FailedWrites]) == 0
}

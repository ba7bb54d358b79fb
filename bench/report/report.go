// Package report holds the figures of a run, compares peers, and prints them as an aligned table and as JSON.
package report

import (
	"encoding/json"
	"io"
	"math"
	"slices"
)

// Metric names what one figure is. The string is its name in JSON and ends with its unit.
type Metric string

// The metrics of all rows.
const (
	IdleCPU        Metric = "idle_cpu_percent"
	OpsPerSecond   Metric = "ops_per_s"
	P50            Metric = "p50_ms"
	P99            Metric = "p99_ms"
	CPUPerOp       Metric = "server_cpu_us_per_op"
	ClientCPUPerOp Metric = "client_cpu_us_per_op"
	RSS            Metric = "rss_mb"
	PeakRSS        Metric = "peak_rss_mb"
	Errors         Metric = "errors"
	EnterTime      Metric = "enter_all_ms"
	LeaveTime      Metric = "leave_all_ms"
	Sessions       Metric = "sessions"
	OpenTime       Metric = "open_s"
	WriteLoss      Metric = "write_loss_percent"
	RSSPerSession  Metric = "rss_per_session_b"
	MassDeath      Metric = "mass_death_s"
	TTL            Metric = "ttl_s"
	GrantAfterKill Metric = "grant_after_kill_s"
	RegisterTime   Metric = "register_s"
	RSSPerWatcher  Metric = "rss_per_watcher_b"
	Goroutines     Metric = "goroutines_added"
	FanOutOneP50   Metric = "fanout_1_p50_ms"
	FanOutOneP99   Metric = "fanout_1_p99_ms"
	FanOutManyP50  Metric = "fanout_1000_p50_ms"
	FanOutManyP99  Metric = "fanout_1000_p99_ms"
	IdlePutP50     Metric = "put_p50_ms"
	IdlePutP99     Metric = "put_p99_ms"
	LoadTime       Metric = "load_s"
	StopTime       Metric = "stop_s"
	FirstRead      Metric = "first_read_s"
	GapTime        Metric = "gap_s"
	GapPerTimeout  Metric = "gap_per_election_timeout"
	FailedWrites   Metric = "failed_writes"
	AckedPerSecond Metric = "writes_per_s"
)

// Record is one line of the table: what one peer did in one row. Its fields stand for the line in JSON.
type Record struct {
	Row     string `json:"row"`
	Peer    string `json:"peer"`
	Members int    `json:"members"`
	// Clients is 0 where a row has no closed-loop clients.
	Clients int `json:"clients,omitempty"`
	// Samples holds one value of each metric for each round, in the order of rounds.
	Samples map[Metric][]float64 `json:"samples"`
	// Note is a remark that belongs under the table.
	Note string `json:"note,omitempty"`
	// Error says why rounds are missing.
	Error string `json:"error,omitempty"`
}

// Add appends a sample.
func (r *Record) Add(m Metric, v float64) {
	if r.Samples == nil {
		r.Samples = map[Metric][]float64{}
	}
	r.Samples[m] = append(r.Samples[m], v)
}

// Median returns the middle of values, the mean of the two middle ones when their number is even, NaN when there are
// none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// Ratio compares two peers round by round: each round's value over the baseline's of the same round, so that drift of
// the machine between rounds falls out. It holds the median, the smallest and the largest of those.
type Ratio struct {
	Median, Min, Max float64
}

// Paired returns the ratio of values to baseline, and false when there is no round that both have or the baseline has
// a value that cannot be divided by.
func Paired(values, baseline []float64) (Ratio, bool) {
	n := min(len(values), len(baseline))
	if n == 0 {
		return Ratio{}, false
	}
	ratios := make([]float64, n)
	for i := range n {
		if baseline[i] <= 0 {
			return Ratio{}, false
		}
		ratios[i] = values[i] / baseline[i]
	}
	return Ratio{Median: Median(ratios), Min: slices.Min(ratios), Max: slices.Max(ratios)}, true
}

// Report is a whole run.
type Report struct {
	Header  Header   `json:"header"`
	Records []Record `json:"records"`
}

// Find returns the record of peer for the row, members and clients of like, nil when there is none.
func (r *Report) Find(like Record, peer string) *Record {
	for i, rec := range r.Records {
		if rec.Row == like.Row && rec.Members == like.Members && rec.Clients == like.Clients && rec.Peer == peer {
			return &r.Records[i]
		}
	}
	return nil
}

// WriteJSON writes the report with every sample.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

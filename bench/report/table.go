package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// column is one way to show a metric.
type column struct {
	metric Metric
	title  string
	digits int // after the decimal point
	value  func([]float64) float64
}

// columns in the order in which they stand in any table; a table has those of which it has samples.
var columns = []column{
	{IdleCPU, "cpu % of a core", 2, Median},
	{OpsPerSecond, "ops/s", 0, Median},
	{P50, "p50 ms", 2, Median},
	{P99, "p99 ms", 2, Median},
	{CPUPerOp, "srv cpu µs/op", 1, Median},
	{ClientCPUPerOp, "client cpu", 1, Median},
	{LoadTime, "load s", 1, Median},
	{StopTime, "stop s", 2, Median},
	{FirstRead, "exec to read s", 3, Median},
	{FirstRead, "max s", 3, maximum},
	{RegisterTime, "register s", 2, Median},
	{RSSPerWatcher, "B/watcher", 0, Median},
	{Goroutines, "goroutines +", 0, Median},
	{IdlePutP50, "put p50 ms", 2, Median},
	{IdlePutP99, "put p99 ms", 2, Median},
	{FanOutOneP50, "1 watches: p50 ms", 2, Median},
	{FanOutOneP99, "p99 ms", 2, Median},
	{FanOutManyP50, "1000 watch: p50 ms", 2, Median},
	{FanOutManyP99, "p99 ms", 2, Median},
	{GapTime, "gap s median", 2, Median},
	{GapTime, "max", 2, maximum},
	{GapPerTimeout, "× timeout median", 2, Median},
	{GapPerTimeout, "max", 2, maximum},
	{AckedPerSecond, "writes/s", 0, Median},
	{RSS, "rss MB", 0, Median},
	{PeakRSS, "peak MB", 0, Median},
	{Errors, "errors", 0, total},
	{FailedWrites, "failed writes", 0, total},
}

// Comparison says how a table compares peers.
type Comparison struct {
	// Baseline is the peer that the others are divided by, in metric By.
	Baseline string
	By       Metric
	// Cost, when not empty, is a second metric whose ratio is shown; where the machine is busy with something else, CPU
	// per operation compares better than operations a second.
	Cost Metric
	// Judge returns what is expected of a record and whether it is so, "" when nothing is. The ratio is nil where there
	// is none. May be nil.
	Judge func(rec Record, ratio *Ratio) string
}

// WriteTable prints the records of one row under a title, a line each, with the ratio to the baseline of the same
// members and clients.
func (r *Report) WriteTable(w io.Writer, title, row string, cmp Comparison) error {
	records := r.row(row)
	if len(records) == 0 {
		return nil
	}
	shown := shownColumns(records)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\n", title)
	head := []string{"peer", "members", "clients"}
	for _, c := range shown {
		head = append(head, c.title)
	}
	head = append(head, "×"+cmp.Baseline, "min–max")
	if cmp.Cost != "" {
		head = append(head, "cpu ×"+cmp.Baseline)
	}
	fmt.Fprintf(tw, "%s\twant\t\n", strings.Join(head, "\t"))
	for _, rec := range records {
		fmt.Fprintf(tw, "%s\t\n", strings.Join(append(cells(rec, shown), r.compare(rec, cmp)...), "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, rec := range records {
		for _, remark := range []string{rec.Note, rec.Error} {
			if remark != "" {
				fmt.Fprintf(w, "  %s, %d members, %s clients: %s\n", rec.Peer, rec.Members, dash(rec.Clients), remark)
			}
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (r *Report) row(name string) []Record {
	var out []Record
	for _, rec := range r.Records {
		if rec.Row == name {
			out = append(out, rec)
		}
	}
	return out
}

func shownColumns(records []Record) []column {
	var shown []column
	for _, c := range columns {
		has := func(r Record) bool { return len(r.Samples[c.metric]) > 0 }
		if slices.ContainsFunc(records, has) {
			shown = append(shown, c)
		}
	}
	return shown
}

func cells(rec Record, shown []column) []string {
	out := []string{rec.Peer, fmt.Sprint(rec.Members), dash(rec.Clients)}
	for _, c := range shown {
		out = append(out, number(c.value(rec.Samples[c.metric]), c.digits))
	}
	return out
}

// compare returns the cells of the ratio, its range, the ratio of costs, and what was expected.
func (r *Report) compare(rec Record, cmp Comparison) []string {
	ratio := r.ratio(rec, cmp.Baseline, cmp.By)
	out := ratio.cells()
	if cmp.Cost != "" {
		out = append(out, r.ratio(rec, cmp.Baseline, cmp.Cost).cells()[0])
	}
	if cmp.Judge == nil {
		return append(out, "")
	}
	return append(out, cmp.Judge(rec, ratio))
}

// cells returns the ratio and its range as text; a ratio that is nil has none.
func (r *Ratio) cells() []string {
	if r == nil {
		return []string{"", ""}
	}
	return []string{number(r.Median, 2), number(r.Min, 2) + "–" + number(r.Max, 2)}
}

// ratio returns a record's ratio to the baseline, nil when it is the baseline or there is none.
func (r *Report) ratio(rec Record, baseline string, by Metric) *Ratio {
	base := r.Find(rec, baseline)
	if base == nil || rec.Peer == baseline {
		return nil
	}
	ratio, ok := Paired(rec.Samples[by], base.Samples[by])
	if !ok {
		return nil
	}
	return &ratio
}

func number(v float64, digits int) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

func dash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func maximum(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return slices.Max(values)
}

func total(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum
}

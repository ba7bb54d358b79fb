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
	{IdleCPU, "idle cpu % of a core", 2, Median},
	{Sessions, "sessions", 0, Median},
	{OpenTime, "open s", 2, Median},
	{WriteLoss, "loss %", 1, Median},
	{WriteLoss, "max", 1, maximum},
	{RSSPerSession, "B/session", 0, Median},
	{MassDeath, "kill to last gone s", 1, Median},
	{TTL, "TTL s", 0, Median},
	{GrantAfterKill, "grant s median", 2, Median},
	{GrantAfterKill, "max", 2, maximum},
	{OpsPerSecond, "ops/s", 0, Median},
	{P50, "p50 ms", 2, Median},
	{P99, "p99 ms", 2, Median},
	{CPUPerOp, "srv cpu µs/op", 1, Median},
	{ClientCPUPerOp, "client cpu", 1, Median},
	{EnterTime, "all in ms", 1, Median},
	{EnterTime, "max", 1, maximum},
	{LeaveTime, "all out ms", 1, Median},
	{LeaveTime, "max", 1, maximum},
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
	// Baselines are the peers that the others are divided by, in metric By. Those that the row has no records of are
	// left out.
	Baselines []string
	By        Metric
	// Cost, when not empty, is a second metric whose ratio is shown; where the machine is busy with something else, CPU
	// per operation compares better than operations a second.
	Cost Metric
	// Judge returns what is expected of a record and whether it is so, "" when nothing is. May be nil.
	Judge func(rec Record, against Against) string
}

// Against returns the ratio of a record to a peer, nil where there is none.
type Against func(peer string) *Ratio

// WriteTable prints the records of one row under a title, a line each, with the ratios to the baselines of the same
// members and clients.
func (r *Report) WriteTable(w io.Writer, title, row string, cmp Comparison) error {
	records := r.row(row)
	if len(records) == 0 {
		return nil
	}
	cmp.Baselines = slices.DeleteFunc(slices.Clone(cmp.Baselines), func(peer string) bool {
		return !slices.ContainsFunc(records, func(rec Record) bool { return rec.Peer == peer })
	})
	shown := shownColumns(records)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\n", title)
	head := []string{"peer", "members", "clients"}
	for _, c := range shown {
		head = append(head, c.title)
	}
	for _, peer := range cmp.Baselines {
		head = append(head, "×"+peer, "min–max")
		if cmp.Cost != "" {
			head = append(head, "cpu ×"+peer)
		}
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
				fmt.Fprintf(w, "  %s: %s\n", rec.line(), remark)
			}
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// Short returns the lines of a row whose verdict, as the table shows it, contains mark; each with that verdict.
func (r *Report) Short(row, mark string, cmp Comparison) []string {
	var lines []string
	for _, rec := range r.row(row) {
		if verdict := r.judge(rec, cmp); strings.Contains(verdict, mark) {
			lines = append(lines, fmt.Sprintf("%s, %s: %s", row, rec.line(), verdict))
		}
	}
	return lines
}

// line names the record's line within its row.
func (r Record) line() string {
	return fmt.Sprintf("%s, %d members, %s clients", r.Peer, r.Members, dash(r.Clients))
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

// compare returns the cells of the ratios, their ranges, the ratios of costs, and what was expected.
func (r *Report) compare(rec Record, cmp Comparison) []string {
	var out []string
	for _, peer := range cmp.Baselines {
		out = append(out, r.ratio(rec, peer, cmp.By).cells()...)
		if cmp.Cost != "" {
			out = append(out, r.ratio(rec, peer, cmp.Cost).cells()[0])
		}
	}
	return append(out, r.judge(rec, cmp))
}

func (r *Report) judge(rec Record, cmp Comparison) string {
	if cmp.Judge == nil {
		return ""
	}
	return cmp.Judge(rec, func(peer string) *Ratio { return r.ratio(rec, peer, cmp.By) })
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

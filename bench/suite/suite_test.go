package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coord-dev/coord/bench/holder"
	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/peers/servers"
	"github.com/coord-dev/coord/bench/report"
)

// TestMain lets the test binary act as servers and holders, as the benchmark's own does.
func TestMain(m *testing.M) {
	for _, role := range []func([]string) (bool, error){servers.Act, holder.Act} {
		acted, err := role(os.Args)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if acted {
			return
		}
	}
	os.Exit(m.Run())
}

func TestParseFlags(t *testing.T) {
	c, err := ParseFlags([]string{"-short", "-rounds=2", "-clients", "1,8", "-peers=etcd"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Rounds != 2 {
		t.Errorf("-rounds given beside -short is %d", c.Rounds)
	}
	if c.Round >= 2*time.Second || c.Rows.MatchString(RowFailoverAll) {
		t.Errorf("-short leaves rounds of %s and rows %s", c.Round, c.Rows)
	}
	if !slices.Equal(c.Clients, []int{1, 8}) || !slices.Equal(c.Members, []int{1, 3}) ||
		!slices.Equal(c.Peers, []string{"etcd"}) {
		t.Errorf("clients %v, members %v, peers %v", c.Clients, c.Members, c.Peers)
	}
}

func TestDefaultRowsLeaveOutStartup(t *testing.T) {
	c, err := ParseFlags(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range allRows() {
		if got, want := c.Rows.MatchString(row), row != RowStartup; got != want {
			t.Errorf("row %s runs by default: %v", row, got)
		}
	}
}

func TestParseFlagsSaysWhichFlagIsWrong(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"-rows=(", "-rows"},
		{"-rows=nothing", "matches none"},
		{"-members=0", "-members"},
		{"-clients=1,x", "-clients"},
		{"-rounds=0", "-rounds"},
		{"-round=0s", "-round"},
		{"-warm-up=-1s", "-warm-up"},
		{"-idle=0s", "-idle"},
		{"-keys=100000001", "-keys"},
		{"-session-ttl=1500ms", "-session-ttl"},
		{"-sessions=0", "-sessions"},
		{"-watchers-per-stream=10", "-watchers-per-stream"},
		{"extra", `"extra"`},
		{"-no-such-flag", "no-such-flag"},
	} {
		if _, err := ParseFlags([]string{c.arg}, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gives %v, want an error with %q", c.arg, err, c.want)
		}
	}
	if _, err := ParseFlags([]string{"-help"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help gives %v", err)
	}
}

// brief is a configuration that measures next to nothing, but all of it.
func brief(t *testing.T) Config {
	t.Helper()
	c, err := ParseFlags([]string{
		"-peers=etcd,ceiling", "-members=1", "-clients=4",
		"-rows=^(idle|put|get|pair|stream-(write|read|lock|session)|watchers|startup)$", "-rounds=2", "-round=200ms",
		"-warm-up=50ms", "-idle=300ms",
		"-keys=500", "-startup-keys=500", "-watch-streams=2", "-watchers-per-stream=20",
		"-dir=" + t.TempDir(), "-json=" + filepath.Join(t.TempDir(), "report.json"),
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// noTrace fails the test when a run left servers or data behind.
func noTrace(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the data directory: %v, %v", left, err)
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range lines {
		if line, err := os.ReadFile(f); err == nil && bytes.Contains(line, []byte(dir)) {
			t.Errorf("still running: %q", line)
		}
	}
}

func TestSmoke(t *testing.T) {
	cfg := brief(t)
	var out bytes.Buffer
	if err := Run(context.Background(), cfg, &out, io.Discard); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	noTrace(t, cfg.Dir)
	raw, err := os.ReadFile(cfg.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var rep report.Report
	if err := json.Unmarshal(raw, &rep); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{RowPut, RowGet, RowPair} {
		for _, peer := range cfg.Peers {
			checkLoop(t, rep, row, peer)
		}
	}
	for _, row := range []string{RowStreamWrite, RowStreamRead, RowStreamLock, RowStreamSession} {
		checkLoop(t, rep, row, peers.Etcd)
		if rep.Find(report.Record{Row: row, Members: 1, Clients: 4}, peers.Ceiling) != nil {
			t.Errorf("row %s was run with a server that keeps nothing", row)
		}
	}
	for row, metric := range map[string]report.Metric{
		RowIdle: report.RSS, RowWatchers: report.FanOutManyP50, RowStartup: report.FirstRead,
	} {
		if rec := rep.Find(report.Record{Row: row, Members: 1}, peers.Etcd); rec == nil ||
			report.Median(rec.Samples[metric]) <= 0 {
			t.Errorf("row %s has no %s: %+v", row, metric, rec)
		}
	}
	idle := rep.Find(report.Record{Row: RowIdle, Members: 1}, peers.Etcd)
	if idle == nil || len(idle.Samples[report.IdleCPU]) != cfg.Rounds {
		t.Errorf("idle has not a figure for each of %d rounds: %+v", cfg.Rounds, idle)
	}
	if v := rep.Header.Peers[peers.Etcd]; v != "3.7.3" {
		t.Errorf("etcd's version is %q", v)
	}
	for _, row := range []string{RowIdle, RowPut, RowGet, RowPair, RowWatchers, RowStartup} {
		if !strings.Contains(out.String(), "\n"+row+":") {
			t.Errorf("no table of %s in\n%s", row, out.String())
		}
	}
}

func checkLoop(t *testing.T, rep report.Report, row, peer string) {
	t.Helper()
	rec := rep.Find(report.Record{Row: row, Members: 1, Clients: 4}, peer)
	if rec == nil {
		t.Errorf("no record of %s by %s", row, peer)
		return
	}
	for _, m := range []report.Metric{report.OpsPerSecond, report.P50, report.P99, report.RSS, report.PeakRSS} {
		if got := rec.Samples[m]; len(got) != 2 || got[0] <= 0 || got[1] <= 0 {
			t.Errorf("%s by %s: %s is %v, want two positive samples", row, peer, m, got)
		}
	}
	if got := rec.Samples[report.Errors]; len(got) != 2 || got[0]+got[1] != 0 {
		t.Errorf("%s by %s: errors %v, %s", row, peer, got, rec.Note)
	}
}

func TestCancelledRunLeavesNothingBehind(t *testing.T) {
	cfg := brief(t)
	cfg.Round = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begun := &notify{text: regexp.MustCompile("load .* keys into"), do: func() {
		time.AfterFunc(500*time.Millisecond, cancel)
	}}
	if err := Run(ctx, cfg, io.Discard, begun); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
	noTrace(t, cfg.Dir)
}

// notify calls do when what is written matches text.
type notify struct {
	text *regexp.Regexp
	do   func()
}

func (n *notify) Write(p []byte) (int, error) {
	if n.text.Match(p) {
		n.do()
	}
	return len(p), nil
}

func TestMissingServerIsSaidBeforeAnythingStarts(t *testing.T) {
	cfg := brief(t)
	cfg.Peers = []string{peers.Etcd, peers.Coord}
	cfg.Coordd = filepath.Join(t.TempDir(), "coordd")
	err := Run(context.Background(), cfg, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), cfg.Coordd) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("error %v, want one that names %s and what to do", err, cfg.Coordd)
	}
	noTrace(t, cfg.Dir)
}

// Contenders hand one lock on, and the next one holds it when a holder has died.
func TestLocksOfEtcd(t *testing.T) {
	cfg := brief(t)
	cfg.Peers, cfg.Clients, cfg.Rounds = []string{peers.Etcd}, []int{contenders}, 1
	cfg.Rows = regexp.MustCompile("^(handoff|holder-death)$")
	cfg.SessionTTL, cfg.Failovers = 2*time.Second, 1
	rep := run(t, cfg)
	if rec := rep.Find(report.Record{Row: RowHandoff, Members: 1, Clients: contenders}, peers.Etcd); rec == nil ||
		report.Median(rec.Samples[report.P50]) <= 0 {
		t.Errorf("no time of a hand-off: %+v", rec)
	}
	rec := rep.Find(report.Record{Row: RowHolderDeath, Members: 3}, peers.Etcd)
	if rec == nil || len(rec.Samples[report.GrantAfterKill]) != 1 {
		t.Fatalf("no time from death to grant: %+v", rec)
	}
	// It renewed at the latest a third of a TTL before it was killed, so it keeps its lock for a second at least.
	if took := rec.Samples[report.GrantAfterKill][0]; took < 0.9 {
		t.Errorf("the lock of the dead was granted after %.2f s", took)
	}
}

// Sessions of the server as it is built here hold their locks under writes, and are gone when their process is.
func TestSessionsOfCoord(t *testing.T) {
	if testing.Short() {
		t.Skip("builds coordd")
	}
	cfg := brief(t)
	cfg.Coordd = filepath.Join(t.TempDir(), "coordd")
	if out, err := exec.Command("go", "build", "-o", cfg.Coordd, "../../cmd/coordd").CombinedOutput(); err != nil {
		t.Fatalf("build coordd: %v\n%s", err, out)
	}
	cfg.Peers, cfg.Rows = []string{peers.Coord}, regexp.MustCompile("^sessions$")
	cfg.Sessions, cfg.SessionStreams, cfg.SessionTTL = 20, 2, 2*time.Second
	rep := run(t, cfg)
	rec := rep.Find(report.Record{Row: RowSessions, Members: sessionMembers, Clients: sessionWriters}, peers.Coord)
	if rec == nil || len(rec.Samples[report.WriteLoss]) != cfg.Rounds {
		t.Fatalf("no loss for each round: %+v", rec)
	}
	// Its sessions were renewed at the latest a third of a TTL before it was killed.
	if gone := rec.Samples[report.MassDeath]; len(gone) != 2 || min(gone[0], gone[1]) < 0.9 {
		t.Errorf("the sessions of the dead were gone after %.2f s", gone)
	}
}

func TestMissingZooKeeperIsLeftOut(t *testing.T) {
	t.Setenv("PATH", "")
	cfg := brief(t)
	cfg.Peers = []string{peers.Etcd, peers.ZooKeeper}
	cfg.Rows, cfg.Rounds = regexp.MustCompile("^(put|stream-write)$"), 1
	var out bytes.Buffer
	if err := Run(context.Background(), cfg, &out, io.Discard); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"zookeeper: not installed: no java", "left out", "\nstream-write:"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
}

// run runs the benchmark and returns what it wrote.
func run(t *testing.T, cfg Config) report.Report {
	t.Helper()
	var out bytes.Buffer
	if err := Run(context.Background(), cfg, &out, io.Discard); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	noTrace(t, cfg.Dir)
	raw, err := os.ReadFile(cfg.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var rep report.Report
	if err := json.Unmarshal(raw, &rep); err != nil {
		t.Fatal(err)
	}
	return rep
}

// One kill and one transfer with three real members: writes stop and go on.
func TestDisturbances(t *testing.T) {
	cfg := brief(t)
	cfg.Rows = regexp.MustCompile("^(failover-leader|transfer-move)$")
	cfg.Failovers, cfg.Transfers = 1, 1
	rep := run(t, cfg)
	for row, clients := range map[string]int{RowFailoverLeader: failoverWriters, RowTransferMove: transferWriters} {
		rec := rep.Find(report.Record{Row: row, Members: 3, Clients: clients}, peers.Etcd)
		if rec == nil || len(rec.Samples[report.GapTime]) != 1 || rec.Samples[report.GapTime][0] <= 0 {
			t.Errorf("%s has no gap: %+v", row, rec)
		}
	}
	// A leader that is killed leaves a gap of about an election, whatever else the machine does.
	if rec := rep.Find(report.Record{
		Row: RowFailoverLeader, Members: 3, Clients: failoverWriters,
	}, peers.Etcd); rec != nil {
		if gap := rec.Samples[report.GapTime]; len(gap) == 1 && gap[0] < 0.5 {
			t.Errorf("etcd's leader was killed and writes paused for %.2f s only", gap[0])
		}
	}
}

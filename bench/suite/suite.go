package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
	"github.com/coord-dev/coord/bench/workload"
)

// Suite is one run of the benchmark.
type Suite struct {
	cfg      Config
	dir      string // of this run, removed at its end
	progress io.Writer
	products []peers.Product
	leftOut  []string // why peers that were asked for are not among the products
	rep      report.Report
}

// table is what is printed for one row.
type table struct {
	row, title string
	by         report.Metric
	want       expectation // nil when nothing is expected
}

// tables in the order in which they are printed.
func tables() []table {
	return []table{
		{RowIdle, "idle: started, empty, nobody connected", report.IdleCPU, nil},
		{RowPut, "put: one key", report.OpsPerSecond, fasterBy(1.3)},
		{RowGet, "get: one key, linearizable", report.OpsPerSecond, fasterBy(1.2)},
		{RowPair, "pair: put, then delete, of one key", report.OpsPerSecond, nil},
		{RowStreamWrite, "stream-write: a key of each caller's own: coord's stream, etcd's put, ZooKeeper's set",
			report.OpsPerSecond, atLeast{zooKeeper: 2, zooKeeper3: 3}.expect},
		{RowStreamRead, "stream-read: linearizable: coord's stream, etcd's get; ZooKeeper's get is local to the member",
			report.OpsPerSecond, atLeast{zooKeeper: 2, zooKeeper3: 2}.expect},
		{RowStreamLock,
			"stream-lock: lock and unlock of a name of each caller's own: client.Lock, concurrency.Mutex, " +
				"create and delete of an ephemeral node", report.OpsPerSecond,
			atLeast{zooKeeper: 2, zooKeeper3: 2, etcd: 8}.expect},
		{RowStreamSession, "stream-session: open and end a session: coord's, a lease, a connection to ZooKeeper",
			report.OpsPerSecond, nil},
		{RowStreamCounter, "stream-counter: all callers add one to the same counter: client.Counter; a " +
			"compare-and-swap loop on etcd and ZooKeeper", report.OpsPerSecond, atLeast{etcd: 8}.expect},
		{RowStreamSemaphore,
			"stream-semaphore: all callers take and give back one of 64 permits: client.Semaphore; a " +
				"compare-and-swap loop on etcd and ZooKeeper", report.OpsPerSecond, atLeast{etcd: 8}.expect},
		{RowHandoff, "handoff: all want one lock, from release to the next grant: client.Lock, concurrency.Mutex, " +
			"zk.Lock", report.P50, nil},
		{RowBarrier, "barrier: all parties enter at once, then all leave: client.Barrier, etcd's " +
			"recipes.DoubleBarrier, Curator's algorithm on ZooKeeper", report.EnterTime, nil},
		{RowSessions, "sessions: held, each with a lock, while 64 callers write, against none held; their process is " +
			"killed: until the last lock is gone", report.OpsPerSecond, lossAtMost(5)},
		{RowHolderDeath, "holder-death: from kill -9 of the holder of a lock to the next grant", report.GrantAfterKill,
			grantsWithin(1500 * time.Millisecond)},
		{RowWatchers, "watchers: all registered, then events for keys that 1 or 1000 watch, then puts nobody watches",
			report.RSSPerWatcher, fewGoroutines},
		{RowStartup, "startup: restart after SIGTERM, from exec to the first linearizable read", report.FirstRead,
			startsWithin(time.Second)},
		{RowFailoverLeader, "failover-leader: 8 writers, kill -9 of the leader, longest time without an " +
			"acknowledged write", report.GapTime, shortGap},
		{RowFailoverFollower, "failover-follower: the same, kill -9 of a follower", report.GapTime, shortGap},
		{RowFailoverAll, "failover-all: the same, kill -9 of all three, started again at once", report.GapTime,
			shortGap},
		{RowTransferMove, "transfer-move: 64 writers, leadership moved by MoveLeader", report.GapTime, noFailedWrite},
		{RowTransferStop, "transfer-stop: 64 writers, the leader stopped by SIGTERM and started again", report.GapTime,
			noFailedWrite},
	}
}

func allRows() []string {
	var names []string
	for _, t := range tables() {
		names = append(names, t.row)
	}
	return names
}

// Run runs the benchmark, prints the report on out and remarks about its progress on progress. When it returns, no
// server runs and no data is left; so it is when ctx is cancelled, and then what was measured until then is printed.
// A peer that fails is left out of the rest of its table and is an error at the end.
func Run(ctx context.Context, cfg Config, out, progress io.Writer) (err error) {
	s := &Suite{cfg: cfg, progress: progress}
	for _, name := range cfg.Peers {
		p, err := peers.Lookup(name, cfg.Self, cfg.Coordd, cfg.ValueBytes)
		if errors.Is(err, peers.ErrNotInstalled) {
			s.leftOut = append(s.leftOut, err.Error()+"; its lines are left out")
			continue
		}
		if err != nil {
			return err
		}
		s.products = append(s.products, p)
	}
	if s.dir, err = os.MkdirTemp(cfg.Dir, "coord-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := s.describe(ctx); err != nil {
		return err
	}
	if err := s.rep.Header.Write(out); err != nil {
		return err
	}
	runErr := s.rows(ctx)
	return errors.Join(runErr, s.print(out), s.writeJSON(), s.failures())
}

// describe fills the header: the machine, and the version each peer gives for itself.
func (s *Suite) describe(ctx context.Context) error {
	h, err := report.Describe(s.dir)
	if err != nil {
		return err
	}
	h.Setup = append(s.cfg.setup(), s.leftOut...)
	for _, p := range s.products {
		if h.Peers[p.Name], err = s.version(ctx, p); err != nil {
			return err
		}
	}
	s.rep.Header = h
	return nil
}

func (s *Suite) version(ctx context.Context, p peers.Product) (string, error) {
	switch p.Kind {
	case peers.Coord:
		return peers.BinaryVersion(s.cfg.Coordd), nil
	case peers.Ceiling:
		return "answers the same protos and does nothing, one process", nil
	}
	c, err := peers.Start(ctx, p, 1, s.dir)
	if err != nil {
		return "", err
	}
	version, err := c.Version(ctx)
	return version, errors.Join(err, c.Stop())
}

// rows runs the selected rows; an error ends the run.
func (s *Suite) rows(ctx context.Context) error {
	for _, members := range s.cfg.Members {
		if err := s.closedLoops(ctx, members); err != nil {
			return err
		}
	}
	for _, part := range []func(context.Context) error{s.barrier, s.sessions, s.holderDeath, s.watchers, s.startup,
		s.failover, s.transfer} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Suite) selected(row string) bool { return s.cfg.Rows.MatchString(row) }

// data is what closed loops read and write.
func (s *Suite) data() workload.Data {
	return workload.Data{Keys: s.cfg.Keys, ValueBytes: s.cfg.ValueBytes}
}

// replicated returns the products that serve etcd's API and store something.
func (s *Suite) replicated() []peers.Product {
	var out []peers.Product
	for _, p := range s.products {
		if p.SpeaksEtcd() && !p.Stateless() {
			out = append(out, p)
		}
	}
	return out
}

// keep adds a record to the report. err, when not nil, is why it is not complete.
func (s *Suite) keep(rec report.Record, err error) {
	if err != nil {
		rec.Error = err.Error()
	}
	s.rep.Records = append(s.rep.Records, rec)
}

func (s *Suite) logf(format string, args ...any) {
	fmt.Fprintf(s.progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// print writes a table for each row, and last which lines are not what is expected.
func (s *Suite) print(out io.Writer) error {
	var short []string
	for _, t := range tables() {
		cmp := report.Comparison{Baselines: []string{peers.Etcd, peers.ZooKeeper}, By: t.by, Judge: t.want.judge}
		if t.by == report.OpsPerSecond {
			cmp.Cost = report.CPUPerOp
		}
		if err := s.rep.WriteTable(out, t.title, t.row, cmp); err != nil {
			return err
		}
		short = append(short, s.rep.Short(t.row, fallsShort, cmp)...)
	}
	for _, line := range short {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

func (s *Suite) writeJSON() error {
	if s.cfg.JSON == "" {
		return nil
	}
	f, err := os.Create(s.cfg.JSON)
	if err != nil {
		return err
	}
	return errors.Join(s.rep.WriteJSON(f), f.Close())
}

// failures is an error when any record is not complete.
func (s *Suite) failures() error {
	n := 0
	for _, r := range s.rep.Records {
		if r.Error != "" {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d lines are not complete", n, len(s.rep.Records))
	}
	return nil
}

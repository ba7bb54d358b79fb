// Package keyspace puts the parts of a keyspace together that do not care where the log comes from: the state machine
// with what hears from it, and the services with what they need of a member. coord builds a member of a cluster on it,
// and coordtest a server whose log is in memory and whose time stands still.
package keyspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/leaseclock"
	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/coord/internal/propose"
	"github.com/coord-dev/coord/coord/internal/stream"
	"github.com/coord-dev/coord/coord/internal/watch"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// Options configure a Keyspace. Log, Dir and Logger are required.
type Options struct {
	// Log takes the entries of this member. It is not asked for anything before the machine is open.
	Log propose.Log
	// Dir is the directory of the store on FS, vfs.Default if nil.
	Dir string
	FS  vfs.FS
	// Caches are those of all stores of the process; nil: the store has its own. MemoryBytes bounds what it holds
	// beside; 0: its default.
	Caches      *machine.Caches
	MemoryBytes int
	// Shard is the keyspace; Member, Boot and Start name the entries of this process.
	Shard, Member, Boot, Start uint64
	// After is propose.Options.After.
	After uint64
	// Procedures are further ones beside those of recipes, for tests.
	Procedures []statemachine.Procedure
	// Retry is the time after which an entry without a result is proposed again.
	Retry time.Duration
	// Displaced is called once if another start of the member's data directory has taken its place in the log. It must
	// not block. Nil is not called.
	Displaced func(error)
	// Now is monotonic time from any origin, and Nonce where the lease clock starts to count its ticks.
	Now   func() time.Duration
	Nonce uint64
	// Members hears from the state machine behind the watch hub and before the proposer. It may be nil.
	Members statemachine.Observer
	// Memory bounds what is held for clients; nil: nothing does.
	Memory *limit.Member
	// Refused are commands that the operator has refused, see machine.Options.
	Refused []statemachine.Refused
	// End ends the process when the replica cannot go on, see machine.Options.
	End    func(line string)
	Logger *zap.Logger
}

// Keyspace is this member's copy of one keyspace, and what hears from it. The log is applied by calling Machine's
// methods, from one goroutine, as Dragonboat's contract says. It implements the parts of api.Backend that need nothing
// else.
type Keyspace struct {
	Shard    uint64
	Machine  *machine.Machine
	Proposer *propose.Proposer
	Lane     *propose.Lane // of heavy commands, in front of the proposer
	Opens    *propose.Lane // likewise of those that open sessions
	Clock    *leaseclock.Clock
	Hub      *watch.Hub
	Streams  *stream.Streams
	Memory   *limit.Member
}

// New makes the parts. Machine.Open has to be called, and in the end Close.
func New(opts Options) *Keyspace {
	var k *Keyspace
	k = &Keyspace{
		Shard: opts.Shard,
		Proposer: propose.New(propose.Options{
			Member: opts.Member, Boot: opts.Boot, Start: opts.Start, After: opts.After, Log: opts.Log,
			Retry: opts.Retry, Displaced: opts.Displaced,
			Check:   func(c raftv1.Command) (raftv1.Command, error) { return k.Machine.CheckProposal(c) },
			Version: func() raftv1.Version { return k.Machine.Version() },
		}),
		Clock:   leaseclock.New(opts.Nonce, opts.Now),
		Streams: &stream.Streams{},
		Memory:  opts.Memory,
	}
	k.Lane, k.Opens = propose.NewLane(k.Proposer), propose.NewLane(k.Proposer)
	told := observers{k.Clock, k.Streams, hubObserver{k}}
	if opts.Members != nil {
		told = append(told, opts.Members)
	}
	program := recipes.Program()
	program.Procedures = append(program.Procedures, opts.Procedures...)
	k.Machine = machine.New(machine.Options{
		Dir: opts.Dir, FS: opts.FS, Caches: opts.Caches, MemoryBytes: opts.MemoryBytes, Shard: opts.Shard,
		Member: opts.Member, Boot: opts.Boot, Start: opts.Start,
		Program: program, Logger: opts.Logger.Named("store"),
		Observer: append(told, k.Proposer), End: opts.End, Refused: opts.Refused,
	})
	k.Hub = watch.New(watch.Options{
		Source: watch.From(k.Machine.View), Memory: opts.Memory, Logger: opts.Logger.Named("watch"),
	})
	return k
}

// Metrics is where the metrics of the keyspace are registered: each says of which shard it is.
func (k *Keyspace) Metrics(r prometheus.Registerer) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"shard": strconv.FormatUint(k.Shard, 10)}, r)
}

// Close ends the waits for results and the watches. The machine belongs to whoever applies the log.
func (k *Keyspace) Close() {
	k.Lane.Close()
	k.Opens.Close()
	k.Proposer.Close()
	k.Hub.Close()
}

// proposeErrors says what the services know the errors of the proposer as.
var proposeErrors = []struct{ err, known error }{
	{propose.ErrTimeout, api.ErrTimeout},
	{propose.ErrStopped, api.ErrStopped},
	{propose.ErrTooManyRequests, api.ErrTooManyRequests},
}

// Propose implements api.Log.
func (k *Keyspace) Propose(ctx context.Context, kind raftv1.Kind, body []byte) (any, error) {
	resp, err := k.propose(ctx, kind, body)
	for _, row := range proposeErrors {
		if errors.Is(err, row.err) {
			err = fmt.Errorf("%w: %w", row.known, err)
		}
	}
	return resp, err
}

func (k *Keyspace) propose(ctx context.Context, kind raftv1.Kind, body []byte) (any, error) {
	weight := k.weightOf(kind, body)
	if weight <= propose.LightWeight {
		return k.Proposer.Propose(ctx, kind, body)
	}
	answered := make(chan statemachine.Result, 1) // buffered: the apply never waits
	cancel := k.Lane.Submit(ctx, kind, body, weight, false, func(result statemachine.Result) { answered <- result })
	select {
	case result := <-answered:
		return result.Response, result.Err
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
}

// Read opens a consistent view at the latest revision, for whom ctx says. The caller closes it.
func (k *Keyspace) Read(ctx context.Context) (*machine.View, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	return k.Machine.View()
}

// View implements api.Store.
func (k *Keyspace) View(ctx context.Context) (api.View, error) {
	v, err := k.Read(ctx)
	if err != nil {
		return nil, err // not v: an interface holding a nil pointer is not nil
	}
	return v, nil
}

// Revision implements api.Store.
func (k *Keyspace) Revision() (statemachine.Revision, error) {
	v, err := k.Machine.View()
	if err != nil {
		return 0, err
	}
	defer v.Close()
	return v.Revision(), nil
}

// Subscribe is watch.Hub.Subscribe, for whom ctx says.
func (k *Keyspace) Subscribe(
	ctx context.Context, key, end []byte, fn func(watch.Delivery),
) (statemachine.Revision, func(), error) {
	if err := admit(ctx); err != nil {
		return 0, nil, err
	}
	return k.Hub.Subscribe(key, end, fn)
}

// Lease implements api.Store.
func (k *Keyspace) Lease(ctx context.Context, id statemachine.LeaseID) (*statemachine.LeaseInfo, [][]byte, error) {
	if err := admit(ctx); err != nil {
		return nil, nil, err
	}
	info, keys, ok := k.Machine.Lease(id)
	if !ok {
		return nil, nil, nil
	}
	return &info, keys, nil
}

// Leases implements api.Store.
func (k *Keyspace) Leases(ctx context.Context) ([]statemachine.LeaseInfo, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	return k.Machine.Leases(), nil
}

// LeaseRemaining implements api.Backend.
func (k *Keyspace) LeaseRemaining(l statemachine.LeaseInfo) int64 {
	return k.Clock.Remaining(l, k.Machine.LeaseClockMS())
}

// LeaseAlive reports whether a lease exists and is not overdue.
func (k *Keyspace) LeaseAlive(id statemachine.LeaseID) bool {
	l, _, ok := k.Machine.Lease(id)
	return ok && k.LeaseRemaining(l) > 0
}

// WriteBackup implements api.Store.
func (k *Keyspace) WriteBackup(ctx context.Context, w io.Writer) error {
	if err := admit(ctx); err != nil {
		return err
	}
	return k.Machine.WriteBackup(ctx, w)
}

// DiskUsage implements api.Store.
func (k *Keyspace) DiskUsage() (total, inUse int64) { return k.Machine.DiskUsage() }

// CompactionDone implements api.Store.
func (k *Keyspace) CompactionDone(rev statemachine.Revision) <-chan struct{} {
	return k.Machine.CompactionDone(rev)
}

// observers hands on what the state machine tells, in order.
type observers []statemachine.Observer

func (o observers) Applied(a *statemachine.Applied) {
	for _, each := range o {
		each.Applied(a)
	}
}

func (o observers) Recovered(a *statemachine.Applied, executed func(uint64) bool) {
	for _, each := range o {
		each.Recovered(a, executed)
	}
}

// hubObserver stands for the hub, which needs the machine first.
type hubObserver struct{ k *Keyspace }

func (h hubObserver) Applied(a *statemachine.Applied) { h.k.Hub.Applied(a) }

func (h hubObserver) Recovered(a *statemachine.Applied, executed func(uint64) bool) {
	h.k.Hub.Recovered(a, executed)
}

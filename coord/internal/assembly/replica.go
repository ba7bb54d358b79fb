// Package assembly puts the parts of a member together that do not care where the log comes from: the state machine with
// what hears from it, and the services with what they need of a member. coord builds a member of a cluster on it, and
// coordtest a server whose log is in memory and whose time stands still.
package assembly

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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
)

// ReplicaOptions configure a Replica. Log, Dir and Logger are required.
type ReplicaOptions struct {
	// Log takes the entries of this member. It is not asked for anything before the machine is open.
	Log propose.Log
	// Dir is the directory of the store on FS, vfs.Default if nil.
	Dir string
	FS  vfs.FS
	// MaxOpenFiles is how many files the store may keep open; 0: its default.
	MaxOpenFiles int
	// Shard is the keyspace; Member, Boot and Start name the entries of this process.
	Shard, Member, Boot, Start uint64
	// Procedures are further ones beside those of recipes, for tests.
	Procedures []statemachine.Procedure
	// Retry is the time after which an entry without a result is proposed again.
	Retry time.Duration
	// Displaced is called once if another start of the member's data directory has taken its place in the log. It must not
	// block. Nil is not called.
	Displaced func(error)
	// Now is monotonic time from any origin, and Nonce where the lease clock starts to count its ticks.
	Now   func() time.Duration
	Nonce uint64
	// Members hears from the state machine behind the watch hub and before the proposer. It may be nil.
	Members statemachine.Observer
	// Memory bounds what is held for clients; nil: nothing does.
	Memory *limit.Member
	// Refused are commands that the operator has refused, see statemachine.Options.
	Refused []statemachine.Refused
	// End ends the process when the replica cannot go on, see statemachine.Options.
	End    func(line string)
	Logger *zap.Logger
}

// Replica is this member's copy of one keyspace, and what hears from it. The log is applied by calling Machine's methods,
// from one goroutine, as Dragonboat's contract says. It implements the parts of api.Backend that need nothing else.
type Replica struct {
	Machine  *statemachine.Machine
	Proposer *propose.Proposer
	Lane     *propose.Lane // of heavy commands, in front of the proposer
	Opens    *propose.Lane // likewise of those that open sessions
	Clock    *leaseclock.Clock
	Hub      *watch.Hub
	Streams  *stream.Streams
	Memory   *limit.Member
}

// NewReplica makes the parts. Machine.Open has to be called, and in the end Close.
func NewReplica(opts ReplicaOptions) *Replica {
	var r *Replica
	r = &Replica{
		Proposer: propose.New(propose.Options{
			Member: opts.Member, Boot: opts.Boot, Start: opts.Start, Log: opts.Log, Retry: opts.Retry, Displaced: opts.Displaced,
			Check:   func(c raftv1.Command) (raftv1.Command, error) { return r.Machine.CheckProposal(c) },
			Version: func() raftv1.Version { return r.Machine.Version() },
		}),
		Clock:   leaseclock.New(opts.Nonce, opts.Now),
		Streams: &stream.Streams{},
		Memory:  opts.Memory,
	}
	r.Lane, r.Opens = propose.NewLane(r.Proposer), propose.NewLane(r.Proposer)
	told := observers{r.Clock, r.Streams, hubObserver{r}}
	if opts.Members != nil {
		told = append(told, opts.Members)
	}
	r.Machine = statemachine.New(statemachine.Options{
		Dir: opts.Dir, FS: opts.FS, MaxOpenFiles: opts.MaxOpenFiles, Shard: opts.Shard, Member: opts.Member, Boot: opts.Boot, Start: opts.Start,
		Procedures: append(recipes.Procedures(), opts.Procedures...), Guard: recipes.Guard, Reactor: recipes.Reactor(), Logger: opts.Logger.Named("store"),
		Observer: append(told, r.Proposer), End: opts.End, Refused: opts.Refused,
	})
	r.Hub = watch.New(watch.Options{Source: watch.From(r.Machine.View), Memory: opts.Memory, Logger: opts.Logger.Named("watch")})
	return r
}

// Close ends the waits for results and the watches. The machine belongs to whoever applies the log.
func (r *Replica) Close() {
	r.Lane.Close()
	r.Opens.Close()
	r.Proposer.Close()
	r.Hub.Close()
}

// proposeErrors says what the services know the errors of the proposer as.
var proposeErrors = []struct{ err, known error }{
	{propose.ErrTimeout, api.ErrTimeout},
	{propose.ErrStopped, api.ErrStopped},
	{propose.ErrTooManyRequests, api.ErrTooManyRequests},
}

// Propose implements api.Log.
func (r *Replica) Propose(ctx context.Context, kind raftv1.Kind, body []byte) (any, error) {
	resp, err := r.propose(ctx, kind, body)
	for _, row := range proposeErrors {
		if errors.Is(err, row.err) {
			err = fmt.Errorf("%w: %w", row.known, err)
		}
	}
	return resp, err
}

func (r *Replica) propose(ctx context.Context, kind raftv1.Kind, body []byte) (any, error) {
	weight := r.weightOf(kind, body)
	if weight <= propose.LightWeight {
		return r.Proposer.Propose(ctx, kind, body)
	}
	answered := make(chan statemachine.Result, 1) // buffered: the apply never waits
	cancel := r.Lane.Submit(ctx, kind, body, weight, false, func(result statemachine.Result) { answered <- result })
	select {
	case result := <-answered:
		return result.Response, result.Err
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
}

// Read opens a consistent view at the latest revision, for whom ctx says. The caller closes it.
func (r *Replica) Read(ctx context.Context) (*statemachine.View, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	return r.Machine.View()
}

// View implements api.Store.
func (r *Replica) View(ctx context.Context) (api.View, error) {
	v, err := r.Read(ctx)
	if err != nil {
		return nil, err // not v: an interface holding a nil pointer is not nil
	}
	return v, nil
}

// Revision implements api.Store.
func (r *Replica) Revision() (statemachine.Revision, error) {
	v, err := r.Machine.View()
	if err != nil {
		return 0, err
	}
	defer v.Close()
	return v.Revision(), nil
}

// Subscribe is watch.Hub.Subscribe, for whom ctx says.
func (r *Replica) Subscribe(ctx context.Context, key, end []byte, fn func(watch.Delivery)) (statemachine.Revision, func(), error) {
	if err := admit(ctx); err != nil {
		return 0, nil, err
	}
	return r.Hub.Subscribe(key, end, fn)
}

// Lease implements api.Store.
func (r *Replica) Lease(ctx context.Context, id statemachine.LeaseID) (*statemachine.LeaseInfo, [][]byte, error) {
	if err := admit(ctx); err != nil {
		return nil, nil, err
	}
	info, keys, ok := r.Machine.Lease(id)
	if !ok {
		return nil, nil, nil
	}
	return &info, keys, nil
}

// Leases implements api.Store.
func (r *Replica) Leases(ctx context.Context) ([]statemachine.LeaseInfo, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	return r.Machine.Leases(), nil
}

// LeaseRemaining implements api.Backend.
func (r *Replica) LeaseRemaining(l statemachine.LeaseInfo) int64 {
	return r.Clock.Remaining(l, r.Machine.LeaseClockMS())
}

// LeaseAlive reports whether a lease exists and is not overdue.
func (r *Replica) LeaseAlive(id statemachine.LeaseID) bool {
	l, _, ok := r.Machine.Lease(id)
	return ok && r.LeaseRemaining(l) > 0
}

// WriteBackup implements api.Store.
func (r *Replica) WriteBackup(ctx context.Context, w io.Writer) error {
	if err := admit(ctx); err != nil {
		return err
	}
	return r.Machine.WriteBackup(ctx, w)
}

// DiskUsage implements api.Store.
func (r *Replica) DiskUsage() (total, inUse int64) { return r.Machine.DiskUsage() }

// CompactionDone implements api.Store.
func (r *Replica) CompactionDone(rev statemachine.Revision) <-chan struct{} {
	return r.Machine.CompactionDone(rev)
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
type hubObserver struct{ r *Replica }

func (h hubObserver) Applied(a *statemachine.Applied) { h.r.Hub.Applied(a) }

func (h hubObserver) Recovered(a *statemachine.Applied, executed func(uint64) bool) {
	h.r.Hub.Recovered(a, executed)
}

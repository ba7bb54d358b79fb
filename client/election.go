package client

import (
	"context"
	"fmt"
	"iter"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Election elects one leader among the candidates of a name. It holds no state. Safe for concurrent use.
type Election struct {
	client  *Client
	session func(context.Context) (*Session, error)
	name    string
}

// Election returns the election of that name; campaigns go through the client's shared session. A name is not empty and
// does not end in a slash.
func (c *Client) Election(name string) *Election {
	return &Election{client: c, session: c.Session, name: name}
}

// Election returns the election of that name; campaigns go through this session.
func (s *Session) Election(name string) *Election {
	return &Election{client: s.client, session: func(context.Context) (*Session, error) { return s, nil }, name: name}
}

// Leadership is a term that was won. Safe for concurrent use.
type Leadership struct{ *grant }

// Term is greater than that of any earlier leader of the election; it is a fencing token. Also Key's create revision.
func (l *Leadership) Term() int64 { return l.token }

// Proclaim tells observers a new value. The error wraps ErrNotHolder if we lead no more.
func (l *Leadership) Proclaim(ctx context.Context, value []byte) error {
	if err := l.Err(); err != nil {
		return fmt.Errorf("proclaim in election %q: %w", l.request.name, err)
	}
	rpc := l.session.client.election
	err := l.session.client.retry(ctx, l.session.attempt, func(ctx context.Context) error {
		_, err := rpc.Proclaim(ctx, &coordv1.ProclaimRequest{Name: l.request.name, Key: l.key, Term: l.token, Value: value}, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return fmt.Errorf("proclaim in election %q: %w", l.request.name, err)
	}
	return nil
}

// Resign ends the term; the next candidate leads. See Held.Release.
func (l *Leadership) Resign(ctx context.Context) error {
	if err := l.giveBack(ctx); err != nil {
		return fmt.Errorf("resign from election %q: %w", l.request.name, err)
	}
	return nil
}

// Campaign waits until we lead, with value for others to see. Errors are those of Lock.Acquire.
func (e *Election) Campaign(ctx context.Context, value []byte, opts ...AcquireOption) (*Leadership, error) {
	var o acquireOptions
	for _, opt := range opts {
		opt(&o)
	}
	s, err := e.session(ctx)
	if err != nil {
		return nil, fmt.Errorf("campaign in election %q: %w", e.name, err)
	}
	g, err := s.contend(ctx, electionService{rpc: e.client.election, value: value}, e.name, o)
	if err != nil {
		return nil, fmt.Errorf("campaign in election %q: %w", e.name, err)
	}
	return &Leadership{g}, nil
}

// Run campaigns and runs fn while we lead; see Lock.Do.
func (e *Election) Run(ctx context.Context, value []byte, fn func(ctx context.Context, term *Leadership) error, opts ...AcquireOption) error {
	term, err := e.Campaign(ctx, value, opts...)
	if err != nil {
		return err
	}
	return term.do(ctx, func(ctx context.Context) error { return fn(ctx, term) })
}

// Leader is who leads.
type Leader struct {
	Key   string
	Term  int64 // 0: nobody leads
	Value []byte
}

func leaderOf(e *coordv1.Entry) Leader {
	return Leader{Key: e.GetKey(), Term: e.GetToken(), Value: e.GetValue()}
}

// Leader returns who leads, as the servers agree. The error wraps ErrNoLeader if nobody does.
func (e *Election) Leader(ctx context.Context) (Leader, error) {
	var resp *coordv1.LeaderResponse
	err := e.client.read(ctx, func(ctx context.Context) (err error) {
		resp, err = e.client.election.Leader(ctx, &coordv1.LeaderRequest{Name: e.name}, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return Leader{}, fmt.Errorf("leader of election %q: %w", e.name, err)
	}
	return leaderOf(resp.Leader), nil
}

// Observation is a state of an election.
type Observation struct {
	Leader   Leader // Term 0: nobody leads
	Revision int64  // of the change
	// Gap: changes between the observation before and this one may be missing.
	Gap bool
}

// Observe yields the state and then every change of leader or value, in the one order all observers see, until ctx ends or
// the loop is left. It comes back after a broken connection, with Gap set. The only errors are those of ctx and refusals by
// the server; an error is the last thing it yields. An observer expects nothing at any time, so it leaves a member that
// falls silent only with the client's sessions, or after some 13 s, when the connection's pings are not answered.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Observation, error] {
	return func(yield func(Observation, error) bool) {
		o := &observing{election: e, yield: yield}
		for pause := minPause; ; pause = min(2*pause, maxPause) {
			at := e.client.members.current()
			before := o.seen
			err := o.stream(ctx, at)
			switch {
			case err == nil:
				return
			case ctx.Err() != nil:
				yield(Observation{}, context.Cause(ctx))
				return
			case e.client.Ctx().Err() != nil:
				yield(Observation{}, ErrClosed)
				return
			case !retryable(err):
				yield(Observation{}, fmt.Errorf("observe election %q: %w", e.name, err))
				return
			}
			if at.ctx.Err() == nil {
				e.client.members.leave(at, fmt.Sprintf("observe %q: %v", e.name, err))
			}
			if o.seen > before {
				pause = minPause
			}
			sleep(ctx, pause)
		}
	}
}

// observing is one Observe over all its streams.
type observing struct {
	election *Election
	yield    func(Observation, error) bool
	seen     int // observations so far
}

// stream observes through one member; nil means that the loop was left.
func (o *observing) stream(ctx context.Context, at *stay) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(at.ctx, cancel)()
	rpc, err := o.election.client.election.Observe(ctx, &coordv1.ObserveRequest{Name: o.election.name}, grpc.WaitForReady(true))
	if err != nil {
		return fromWire(err)
	}
	for again := o.seen > 0; ; again = false {
		ev, err := rpc.Recv()
		if err != nil {
			return fromWire(err)
		}
		o.seen++
		if !o.yield(Observation{Leader: leaderOf(ev.Leader), Revision: ev.Revision, Gap: ev.Gap || again}, nil) {
			return nil
		}
	}
}

// electionService implements service for elections.
type electionService struct {
	rpc   coordv1.ElectionClient
	value []byte
}

func (es electionService) open(ctx context.Context, r attachment) (func() (event, error), error) {
	stream, err := es.rpc.Campaign(ctx, &coordv1.CampaignRequest{
		Name: r.name, Lease: r.lease, OwnerId: r.ownerID, Value: es.value,
		WaitMs: r.wait.Milliseconds(), ResumeToken: r.resume, GraceMs: r.grace.Milliseconds(),
	}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	return func() (event, error) {
		ev, err := stream.Recv()
		return event{queued: ev.GetQueued(), granted: ev.GetElected(), notAcquired: ev.GetNotElected(), lost: ev.GetLost()}, err
	}, nil
}

func (es electionService) remove(ctx context.Context, name, key string, term int64) error {
	_, err := es.rpc.Resign(ctx, &coordv1.ResignRequest{Name: name, Key: key, Term: term}, grpc.WaitForReady(true))
	return err
}

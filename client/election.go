package client

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Election elects one leader among the candidates of a name. It holds no state. Safe for concurrent use.
type Election struct {
	recipe
	name     string
	priority int64
}

// Election returns the election of that name; campaigns go through the client's shared session, and go on in the next
// one if it is lost. A name is not empty and does not end in a slash.
func (c *Client) Election(name string) *Election {
	return &Election{recipe: recipe{client: c}, name: name}
}

// Election returns the election of that name; campaigns go through this session.
func (s *Session) Election(name string) *Election {
	return &Election{recipe: recipe{s.client, s}, name: name}
}

// WithPriorities returns the election with priorities of the same name, which is another one: its candidates campaign
// WithPriority, and the greatest leads next. Leader, Observe and Transfer are about it.
func (e *Election) WithPriorities() *Election {
	return &Election{recipe: e.recipe, name: e.name, priority: 1}
}

// Leadership is a term that was won. Safe for concurrent use.
type Leadership struct{ Grant }

// Term is greater than that of any earlier leader of the election; it is a fencing token.
func (l *Leadership) Term() int64 { return l.entries[0].token }

// Key is the entry's key in the store.
func (l *Leadership) Key() string { return l.entries[0].key }

// Name is the election's name.
func (l *Leadership) Name() string { return l.names[0] }

// Guards are preconditions for a transaction of etcd's API: they hold as long as this term lasts. An election with
// priorities has none: use KV.
func (l *Leadership) Guards() []clientv3.Cmp { return l.entries[0].guards() }

// Proclaim tells observers a new value. The error wraps ErrNotHolder, or ErrLost or ErrReleased, if we lead no more.
func (l *Leadership) Proclaim(ctx context.Context, value []byte) error {
	err := l.Err()
	if err == nil {
		_, err = l.s.t.do(ctx, l.s, request{
			kind: coordv1.Kind_KIND_PROCLAIM, body: &coordv1.Proclaim{Entry: l.entries[0].guard(), Value: value},
		})
	}
	if err != nil {
		return fmt.Errorf("proclaim in election %q: %w", l.names[0], err)
	}
	return nil
}

// Resign ends the term; the next candidate leads. See Held.Release.
func (l *Leadership) Resign(ctx context.Context) error {
	if err := l.release(ctx); err != nil {
		return fmt.Errorf("resign from election %q: %w", l.names[0], err)
	}
	return nil
}

// Transfer ends the term and makes the candidate with the key to the next leader. The candidates that wait before it
// are put behind it, in their order. The term is lost with ErrTransferred; it goes on if the error is a refusal
// (ErrForeignCandidate, ErrNoCandidate).
func (l *Leadership) Transfer(ctx context.Context, to string) error {
	err := l.Err()
	if err == nil {
		err = transfer(ctx, l.s,
			&coordv1.Transfer{Leader: l.entries[0].guard(), Name: l.names[0], To: to, Priority: l.options.priority})
	}
	if err != nil {
		return fmt.Errorf("transfer election %q: %w", l.names[0], err)
	}
	l.s.t.lock()
	defer l.s.t.unlock()
	l.gone(lost(ErrTransferred))
	return nil
}

// Transfer makes the candidate with the key to the leader, whoever leads now; see Leadership.Transfer.
func (e *Election) Transfer(ctx context.Context, to string) error {
	s, err := e.session(ctx)
	if err == nil {
		err = transfer(ctx, s, &coordv1.Transfer{Name: e.name, To: to, Priority: e.priority})
	}
	if err != nil {
		return fmt.Errorf("transfer election %q: %w", e.name, err)
	}
	return nil
}

func transfer(ctx context.Context, s *Session, req *coordv1.Transfer) error {
	_, err := s.t.do(ctx, s, request{kind: coordv1.Kind_KIND_TRANSFER, body: req})
	return err
}

// Campaign waits until we lead, with value for others to see. Errors are those of Lock.Acquire.
func (e *Election) Campaign(ctx context.Context, value []byte, opts ...CampaignOption) (*Leadership, error) {
	return e.campaign(ctx, value, ofAcquire(e.client, opts))
}

// TryCampaign leads if nobody else does, and never waits. The error wraps ErrNotAcquired if somebody leads.
func (e *Election) TryCampaign(ctx context.Context, value []byte, opts ...CampaignOption) (*Leadership, error) {
	return e.campaign(ctx, value, ofTry(e.client, opts))
}

func (e *Election) campaign(ctx context.Context, value []byte, o options) (_ *Leadership, err error) {
	ctx, end := e.client.config.Hooks.trace(ctx, "campaign", e.name)
	defer func() { end(err) }()
	if o.priority == 0 {
		o.priority = e.priority
	}
	c, err := e.admit(ctx, coordv1.Kind_KIND_CAMPAIGN, []string{e.name}, o, func(owner string) proto.Message {
		return &coordv1.Campaign{
			Name: e.name, OwnerId: owner, Value: value, Try: o.try, Priority: o.priority,
			LingerMs: o.delay.Milliseconds(),
		}
	})
	if err != nil {
		return nil, fmt.Errorf("campaign in election %q: %w", e.name, err)
	}
	return &Leadership{Grant{c}}, nil
}

// Run campaigns and runs fn while we lead; see Lock.Do for fn's context. When the term is lost it waits for fn to
// return, whose error it then logs, and campaigns again. It returns when fn returns while we lead, after it resigned;
// when ctx ends; or when a campaign fails. WithOneTerm it returns after one term, with ErrLost if that was lost. Its
// own session cannot be replaced: only an election of the client goes on after its session was lost.
func (e *Election) Run(ctx context.Context, value []byte, fn func(ctx context.Context, term *Leadership) error,
	opts ...RunOption) error {
	o := ofAcquire(e.client, opts)
	for {
		term, err := e.campaign(ctx, value, o)
		if err != nil {
			if errors.Is(err, ErrLost) && !isSessionLost(err) && !o.oneTerm {
				continue // somebody removed the candidate
			}
			return err
		}
		err = term.do(ctx, func(ctx context.Context) error { return fn(ctx, term) })
		if o.oneTerm || ctx.Err() != nil || !errors.Is(err, ErrLost) {
			return err
		}
		e.client.t.log.Warn("coord: a term was lost, campaign again", "election", e.name, "error", err)
	}
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
	resp := &coordv1.LeaderResponse{}
	err := e.client.t.ask(ctx, nil, request{
		kind: coordv1.Kind_KIND_LEADER, body: &coordv1.LeaderRequest{Name: e.name, Priority: e.priority}, quick: true,
	}, resp)
	if err != nil {
		return Leader{}, fmt.Errorf("leader of election %q: %w", e.name, err)
	}
	return leaderOf(resp.Leader), nil
}

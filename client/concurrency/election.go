package concurrency

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
)

// Errors of an Election.
var (
	// ErrElectionNotLeader: we do not lead.
	ErrElectionNotLeader = errors.New("election: not leader")
	// ErrElectionNoLeader: nobody leads.
	ErrElectionNoLeader = errors.New("election: no leader")
)

// Election is etcd's: candidates of coord, etcd and this package with the same name take part in the same one. For one
// goroutine at a time, but for Leader and Observe.
type Election struct {
	election *client.Election
	term     *client.Leadership
}

// NewElection returns the election of that name; campaigns go through the session.
func NewElection(s *Session, pfx string) *Election {
	return &Election{election: s.session.Election(pfx)}
}

// Campaign waits until we lead, with val for others to see. Who leads already proclaims val.
func (e *Election) Campaign(ctx context.Context, val string) error {
	if e.term != nil && e.term.Err() == nil {
		return e.Proclaim(ctx, val)
	}
	term, err := e.election.Campaign(ctx, []byte(val))
	if err != nil {
		return err
	}
	e.term = term
	return nil
}

// Proclaim tells a new value without another election.
func (e *Election) Proclaim(ctx context.Context, val string) error {
	if e.term == nil {
		return ErrElectionNotLeader
	}
	err := e.term.Proclaim(ctx, []byte(val))
	if errors.Is(err, client.ErrLost) || errors.Is(err, client.ErrNotHolder) || errors.Is(err, client.ErrReleased) {
		e.term = nil
		return ErrElectionNotLeader
	}
	return err
}

// Resign ends our term; it does nothing if we do not lead.
func (e *Election) Resign(ctx context.Context) error {
	if e.term == nil {
		return nil
	}
	err := e.term.Resign(ctx)
	if err == nil || errors.Is(err, client.ErrLost) {
		e.term = nil
		return nil
	}
	return err
}

// Leader returns the leader's key and value.
func (e *Election) Leader(ctx context.Context) (*v3.GetResponse, error) {
	l, err := e.election.Leader(ctx)
	if errors.Is(err, client.ErrNoLeader) {
		return nil, ErrElectionNoLeader
	}
	if err != nil {
		return nil, err
	}
	return response(l, 0), nil
}

// Observe sends every leader and value from now on. The channel is closed when ctx ends or the server refuses.
func (e *Election) Observe(ctx context.Context) <-chan *v3.GetResponse {
	c := make(chan *v3.GetResponse)
	go func() {
		defer close(c)
		for seen, err := range e.election.Observe(ctx) {
			if err != nil {
				return
			}
			if seen.Leader.Term == 0 {
				continue
			}
			select {
			case c <- response(seen.Leader, seen.Revision):
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

func response(l client.Leader, revision int64) *v3.GetResponse {
	return &v3.GetResponse{
		Header: &pb.ResponseHeader{Revision: revision},
		Kvs:    []*mvccpb.KeyValue{{Key: []byte(l.Key), Value: l.Value, CreateRevision: l.Term, ModRevision: revision}},
		Count:  1,
	}
}

// Key is our key while we lead, "" otherwise.
func (e *Election) Key() string {
	if e.term == nil {
		return ""
	}
	return e.term.Key()
}

// Rev is our term while we lead, 0 otherwise.
func (e *Election) Rev() int64 {
	if e.term == nil {
		return 0
	}
	return e.term.Term()
}

// Header has the revision at which we were elected; nil if we do not lead.
func (e *Election) Header() *pb.ResponseHeader {
	if e.term == nil {
		return nil
	}
	return &pb.ResponseHeader{Revision: e.term.Revision()}
}

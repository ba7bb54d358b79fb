package client

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// Gate is a barrier that somebody closes and somebody opens: who comes meanwhile waits, and then all go on at once. It
// holds no state: any number may exist for one name. Safe for concurrent use.
type Gate struct{ object }

// Gate returns the gate of that name, closed and opened through the client's shared session. A name is not empty and
// does not end in a slash.
func (c *Client) Gate(name string) *Gate {
	return &Gate{object{recipe{client: c}, layout.Gate, name}}
}

// Gate returns the gate of that name, closed and opened through this session.
func (s *Session) Gate(name string) *Gate {
	return &Gate{object{recipe{s.client, s}, layout.Gate, name}}
}

// Close closes the gate. One that is closed already has the options of the last Close then, whoever closed it.
func (g *Gate) Close(ctx context.Context, opts ...GateOption) error {
	o := applied(options{}, opts)
	req := &coordv1.GateClose{Name: g.name, Bound: o.sessionBound, Reason: o.reason}
	if _, err := g.change(ctx, coordv1.Kind_KIND_GATE_CLOSE, req, &coordv1.GateState{}); err != nil {
		return fmt.Errorf("close gate %q: %w", g.name, err)
	}
	return nil
}

// Open opens the gate, whoever closed it, and says whether it was closed.
func (g *Gate) Open(ctx context.Context) (wasClosed bool, err error) {
	resp := &coordv1.GateState{}
	if _, err := g.change(ctx, coordv1.Kind_KIND_GATE_OPEN, &coordv1.GateOpen{Name: g.name}, resp); err != nil {
		return false, fmt.Errorf("open gate %q: %w", g.name, err)
	}
	return resp.Changed, nil
}

// State returns the gate as it is.
func (g *Gate) State(ctx context.Context) (GateState, error) {
	kv, rev, err := g.read(ctx)
	if err != nil {
		return GateState{}, fmt.Errorf("gate %q: %w", g.name, err)
	}
	state, err := objects.Gate(kv)
	if err != nil {
		return GateState{}, fmt.Errorf("gate %q: %w", g.name, objectError(err))
	}
	return GateState{state.Closed, state.Since, state.Reason, clientv3.LeaseID(state.Session), rev}, nil
}

// Await returns when the gate is open: at once if it is not closed. A gate that was opened meanwhile does not hold up
// who waited, even if it is closed again. The error is the cause of ctx, or that of a watch.
func (g *Gate) Await(ctx context.Context) error {
	wait := objects.GateWait{}
	err := g.await(ctx, func(kv *mvccpb.KeyValue) (bool, error) { return wait.See(kv), nil })
	if err != nil {
		return fmt.Errorf("await gate %q: %w", g.name, err)
	}
	return nil
}

package coord

import (
	"github.com/coord-dev/coord/coord/node"
	"github.com/coord-dev/coord/statemachine"
)

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
type hubObserver struct{ s *Server }

func (h hubObserver) Applied(a *statemachine.Applied) { h.s.hub.Applied(a) }

func (h hubObserver) Recovered(a *statemachine.Applied, executed func(uint64) bool) {
	h.s.hub.Recovered(a, executed)
}

// lateRaft stands for the node, which needs the machine first, which needs the proposer. Nothing is proposed before the
// node runs.
type lateRaft struct{ server *Server }

func (l *lateRaft) Propose(entry []byte) error {
	if l.server.node == nil {
		return node.ErrBusy
	}
	return l.server.node.Propose(entry)
}

package coord

import "github.com/coord-dev/coord/coord/internal/node"

// lateRaft stands for the node, which needs the machine first, which needs the proposer. Nothing is proposed before the
// node runs.
type lateRaft struct{ server *Server }

func (l lateRaft) Propose(entry []byte) error {
	if l.server.node == nil {
		return node.ErrBusy
	}
	return l.server.node.Propose(entry)
}

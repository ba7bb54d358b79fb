package coord

import (
	"fmt"
	"io"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// checkCommand is node.Config.CheckCommand. Who proposes an entry names itself in it: an entry in another's name, with a
// high boot counter, would make that one's own entries pass for old ones on all members.
func checkCommand(proposer uint64, cmd []byte) error {
	e, err := raftv1.DecodeEntry(cmd)
	if err != nil {
		return err
	}
	if proposer != 0 && e.Member != proposer {
		return fmt.Errorf("member %x proposes it in the name of member %x", proposer, e.Member)
	}
	if e.Member == 0 || e.Boot == 0 || e.Number == 0 {
		return fmt.Errorf("it is entry %d of boot %d of member %x", e.Number, e.Boot, e.Member)
	}
	for _, c := range e.Commands {
		if c.Kind < raftv1.KindPut || c.Kind > raftv1.KindRequests {
			return fmt.Errorf("command of unknown kind %d", c.Kind)
		}
	}
	return nil
}

// checkSnapshot is node.Config.CheckSnapshot.
func checkSnapshot(r io.Reader) (uint64, error) { return statemachine.CheckSnapshot(r, Shard) }

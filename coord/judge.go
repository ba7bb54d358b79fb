package coord

import (
	"fmt"
	"io"
	"sync"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// checkCommand is node.Config.CheckCommand. Who proposes an entry names itself in it: an entry in another's name, with a
// high boot counter, would make that one's own entries pass for old ones on all members.
func checkCommand(proposer uint64, cmd []byte) error {
	e, err := raftv1.DecodeEntry(cmd)
	if err == nil {
		err = e.Check()
	}
	switch {
	case err != nil:
		return err
	case proposer != 0 && e.Member != proposer:
		return fmt.Errorf("member %x proposes it in the name of member %x", proposer, e.Member)
	case e.Member == 0 || e.Boot == 0 || e.Number == 0:
		return fmt.Errorf("it is entry %d of boot %d of member %x", e.Number, e.Boot, e.Member)
	}
	for _, c := range e.Commands {
		if c.Kind == raftv1.KindCall && !procedures()[raftv1.ProcedureOf(c)] {
			return fmt.Errorf("%w: a call of procedure %q", raftv1.ErrUnknown, raftv1.ProcedureOf(c))
		}
	}
	return nil
}

// procedures are the names of those that this release has.
var procedures = sync.OnceValue(func() map[string]bool {
	names := make(map[string]bool)
	for _, p := range recipes.Procedures() {
		names[p.Name()] = true
	}
	return names
})

// checkSnapshot is node.Config.CheckSnapshot.
func checkSnapshot(r io.Reader) (uint64, error) { return statemachine.CheckSnapshot(r, Shard) }

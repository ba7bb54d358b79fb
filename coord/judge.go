package coord

import (
	"fmt"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// judge makes group.Config.CheckCommand of what says whether a command may go into the log. Who proposes an entry names
// itself in it: an entry in another's name, with a high boot counter, would make that one's own entries pass for old
// ones on all members. What is proposed is of the cluster's version at most; what is in the leader's log may be of one
// that this member has yet to apply.
func judge(
	command func(raftv1.Command) error, version func() raftv1.Version,
) func(proposer uint64, entry []byte) error {
	return func(proposer uint64, entry []byte) error {
		e, err := raftv1.DecodeEntry(entry)
		if err == nil {
			err = e.Check(command)
		}
		switch {
		case err != nil:
			return err
		case proposer != 0 && e.Member != proposer:
			return fmt.Errorf("member %x proposes it in the name of member %x", proposer, e.Member)
		case proposer != 0 && e.Version > version():
			return fmt.Errorf("%w: an entry of version %d in a cluster at version %d", raftv1.ErrEarly, e.Version,
				version())
		case e.Boot == 0:
			return fmt.Errorf("it is entry %d of boot 0 of member %x", e.Number, e.Member)
		}
		return nil
	}
}

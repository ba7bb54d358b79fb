package coord

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
)

// TestCheckCommandKnowsProcedures: a call that this release would end at goes into no log.
func TestCheckCommandKnowsProcedures(t *testing.T) {
	for name, want := range map[string]error{
		recipes.LockAcquire: nil, recipes.ConfigDelete: nil, "lock.acquire.v2": raftv1.ErrUnknown, "": raftv1.ErrUnknown,
	} {
		body, err := proto.Marshal(&raftv1.Call{Procedure: name, Request: []byte("x"), UnixMs: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, proposer := range []uint64{0, 7} {
			entry := &raftv1.Entry{Member: 7, Boot: 1, Number: 1, Commands: []raftv1.Command{{Kind: raftv1.KindTick}, {Kind: raftv1.KindCall, Body: body}}}
			if err := checkCommand(proposer, raftv1.AppendEntry(nil, entry)); !errors.Is(err, want) {
				t.Errorf("a call of %q: %v, want %v", name, err, want)
			}
		}
	}
}

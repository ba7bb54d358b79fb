package keyspace

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
)

// countedLog loses entries and counts them.
type countedLog struct{ *atomic.Int64 }

func (l countedLog) Propose([]byte) error { l.Add(1); return nil }

// TestUnknownIsNotProposed: what a replica of this release would end at, once it is in the log, is refused where it
// would be proposed.
func TestUnknownIsNotProposed(t *testing.T) {
	var proposed atomic.Int64
	r := New(Options{
		Log: countedLog{&proposed}, Dir: "db", FS: vfs.NewMem(), Member: 1, Boot: 1,
		Now: func() time.Duration { return 0 }, Logger: zap.NewNop(),
	})
	if _, err := r.Machine.Open(nil); err != nil {
		t.Fatal(err)
	}
	defer r.Machine.Close()
	defer r.Close()
	request := encode(t, &coordv1.Request{Sequence: 1, Kind: 126})
	for what, c := range map[string]raftv1.Command{
		"a kind of command": {Kind: 99},
		"a kind of request": {
			Kind: raftv1.KindRequests, Body: encode(t, &raftv1.Requests{Session: 1, Requests: [][]byte{request}}),
		},
		"a procedure": {Kind: raftv1.KindCall, Body: encode(t, &raftv1.Call{Procedure: "acquire.v99"})},
	} {
		if _, err := r.Proposer.Propose(principal.Member(t.Context()), c.Kind, c.Body); !errors.Is(err,
			raftv1.ErrUnknown) {
			t.Errorf("%s that is unknown: %v", what, err)
		}
	}
	if _, err := r.Proposer.Propose(principal.Member(t.Context()), 0, nil); !errors.Is(err, raftv1.ErrMalformed) {
		t.Errorf("kind 0: %v", err)
	}
	if n := proposed.Load(); n != 0 {
		t.Errorf("%d entries were proposed", n)
	}
	for _, p := range recipes.Procedures() {
		if err := r.Machine.CheckCommand(raftv1.Command{
			Kind: raftv1.KindCall, Body: encode(t, &raftv1.Call{Procedure: p.Name()}),
		}); err != nil {
			t.Errorf("%s: %v", p.Name(), err)
		}
	}
}

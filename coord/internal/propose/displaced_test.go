package propose

import (
	"errors"
	"testing"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// silent is a log that takes entries and never applies one.
type silent struct{}

func (silent) Propose([]byte) error { return nil }

// TestDisplacedProposerEnds: what waits and what comes ends with an error that says why, whether an own entry was
// passed over or another start of the directory was seen in the log; entries of earlier starts and of other members
// mean nothing.
func TestDisplacedProposerEnds(t *testing.T) {
	for _, tc := range []struct {
		what  string
		entry statemachine.EntryResult
		ends  bool
	}{
		{"own entry passed over", statemachine.EntryResult{
			Member: 7, Boot: 5, Start: 50, Number: 1, Displaced: true,
		}, true},
		{"same boot, other start", statemachine.EntryResult{Member: 7, Boot: 5, Start: 51, Number: 9}, true},
		{"same boot, other start, repeated", statemachine.EntryResult{
			Member: 7, Boot: 5, Start: 51, Number: 9, Duplicate: true,
		}, true},
		{"higher boot", statemachine.EntryResult{Member: 7, Boot: 6, Start: 60, Number: 1}, true},
		{"the other one was passed over", statemachine.EntryResult{
			Member: 7, Boot: 5, Start: 51, Number: 1, Displaced: true,
		}, false},
		{"earlier boot", statemachine.EntryResult{Member: 7, Boot: 4, Start: 40, Number: 1}, false},
		{"other member", statemachine.EntryResult{Member: 8, Boot: 6, Start: 60, Number: 1}, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			told := make(chan error, 10)
			p := New(Options{Member: 7, Boot: 5, Start: 50, Log: silent{}, Displaced: func(err error) { told <- err }})
			defer p.Close()
			waits := make(chan error, 1)
			p.Submit(asks, raftv1.KindPut, []byte("x"), func(r statemachine.Result) { waits <- r.Err })
			for range 2 {
				p.Applied(&statemachine.Applied{Entries: []statemachine.EntryResult{tc.entry}})
			}
			if !tc.ends {
				if len(waits) > 0 || len(told) > 0 {
					t.Errorf("ended with %v", <-waits)
				}
				return
			}
			if err := <-waits; !errors.Is(err, ErrDisplaced) || !errors.Is(err, ErrStopped) {
				t.Errorf("a command that waited ended with %v", err)
			}
			if _, err := p.Propose(asks, raftv1.KindPut, nil); !errors.Is(err, ErrDisplaced) {
				t.Errorf("a command that came later ended with %v", err)
			}
			if err := <-told; !errors.Is(err, ErrDisplaced) || len(told) > 0 {
				t.Errorf("told %v and %d more", err, len(told))
			}
		})
	}
}

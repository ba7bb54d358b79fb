package host

import (
	"testing"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// TestMajorityOfRefusals: which refusals stop member 1.
func TestMajorityOfRefusals(t *testing.T) {
	by := func(member uint64, k handshake.Kind, proven bool) *handshake.RefusedError {
		return &handshake.RefusedError{Peer: member, Kind: k, Proven: proven}
	}
	removed := func(member uint64) *handshake.RefusedError { return by(member, handshake.Removed, true) }
	for _, tc := range []struct {
		what     string
		voters   []uint64
		refusals []*handshake.RefusedError
		admitted []uint64 // after the first of the refusals
		stops    bool
	}{
		{"one of two others", []uint64{1, 2, 3}, []*handshake.RefusedError{removed(2), removed(2)}, nil, false},
		{"both", []uint64{1, 2, 3}, []*handshake.RefusedError{removed(2), by(3, handshake.Copy, true)}, nil, true},
		{"one after the other", []uint64{1, 2, 3}, []*handshake.RefusedError{removed(2), removed(3)}, []uint64{2},
			false},
		{"both, one unproven", []uint64{1, 2, 3}, []*handshake.RefusedError{removed(2),
			by(3, handshake.Removed, false)}, nil, false},
		{"both, one not for good", []uint64{1, 2, 3}, []*handshake.RefusedError{removed(2),
			by(3, handshake.Later, true)}, nil, false},
		{"both, one of another cluster", []uint64{1, 2, 3}, []*handshake.RefusedError{removed(2),
			by(3, handshake.OtherCluster, true)}, nil, false},
		{"both, one by this member", []uint64{1, 2, 3}, []*handshake.RefusedError{removed(2), {
			Peer: 3, Kind: handshake.Wiped, Local: true, Proven: true,
		}}, nil, false},
		{"one voter and a learner", []uint64{1, 2, 3}, []*handshake.RefusedError{removed(2), removed(4)}, nil, false},
		{"two of five", []uint64{1, 2, 3, 4, 5}, []*handshake.RefusedError{removed(2), removed(3)}, nil, false},
		{"three of five", []uint64{1, 2, 3, 4, 5}, []*handshake.RefusedError{removed(2), removed(3), removed(4)}, nil,
			true},
		{"the other one of two", []uint64{1, 2}, []*handshake.RefusedError{removed(2)}, nil, true},
		{"two of three, refusing a learner", []uint64{2, 3, 4}, []*handshake.RefusedError{removed(2), removed(3)}, nil,
			true},
		{"one of three, refusing a learner", []uint64{2, 3, 4}, []*handshake.RefusedError{removed(2)}, nil, false},
		{"voters not known yet", nil, []*handshake.RefusedError{removed(2), removed(3)}, nil, false},
		{"alone", []uint64{1}, []*handshake.RefusedError{removed(2), removed(3)}, nil, false},
	} {
		stops := false
		r := &refusals{
			self: 1, voters: func() []uint64 { return tc.voters }, hear: func(*handshake.RefusedError) {},
			stop: func(*handshake.RefusedError) { stops = true }, by: make(map[uint64]*handshake.RefusedError),
		}
		for i, err := range tc.refusals {
			r.refused(err)
			if i == 0 {
				for _, id := range tc.admitted {
					r.admitted(id)
				}
			}
		}
		if stops != tc.stops {
			t.Errorf("%s: stops %v, want %v", tc.what, stops, tc.stops)
		}
	}
}

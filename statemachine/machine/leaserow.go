package machine

import (
	"encoding/binary"
	"fmt"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// Lease returns a lease; ok is false if there is none.
func (v *View) Lease(id statemachine.LeaseID) (l statemachine.LeaseRow, ok bool, err error) {
	row, ok, err := v.rows().Get(mvcc.IDKey(mvcc.SpaceLeases, uint64(id)))
	if err != nil || !ok {
		return statemachine.LeaseRow{}, false, err
	}
	ttl, n := binary.Uvarint(row)
	if n <= 0 {
		return statemachine.LeaseRow{}, false, fmt.Errorf("%w: lease %d", mvcc.ErrCorrupt, id)
	}
	l = statemachine.LeaseRow{ID: id, TTL: int64(ttl)}
	row, ok, err = v.rows().Get(mvcc.IDKey(mvcc.SpaceSessions, uint64(id)))
	if err != nil || !ok {
		return l, err == nil, err
	}
	t := newSessions(nil)
	if err := t.load(id, row); err != nil {
		return statemachine.LeaseRow{}, false, err
	}
	l.Created, l.Identity = t.byID[id].created, t.byID[id].identity
	return l, true, nil
}

// Leases calls fn for the leases behind the given one, or for the sessions alone, until it returns false: positive ids
// in order, then negative ones. 0 is before all.
func (v *View) Leases(after statemachine.LeaseID, sessions bool, fn func(statemachine.LeaseRow) bool) error {
	space := mvcc.SpaceLeases
	if sessions {
		space = mvcc.SpaceSessions
	}
	lower, upper := append(mvcc.IDKey(space, uint64(after)), 0), []byte{space + 1}
	return mvcc.ScanRows(v.rows(), lower, upper, func(k, _ []byte) (bool, error) {
		l, ok, err := v.Lease(statemachine.LeaseID(binary.BigEndian.Uint64(k[1:])))
		return err == nil && (!ok || fn(l)), err
	})
}

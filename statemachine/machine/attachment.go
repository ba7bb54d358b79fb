package machine

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// attachmentRow is the value of the row that says that a key is attached to a lease.
func attachmentRow(a statemachine.Attachment) []byte {
	if a == (statemachine.Attachment{}) {
		return nil
	}
	dst := make([]byte, 0, 2*binary.MaxVarintLen64)
	for _, v := range [...]uint64{a.Kind, a.Sequence, uint64(a.SinceUnixMS), uint64(a.LingerMS)} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// parseAttachment is the inverse of attachmentRow.
func parseAttachment(row []byte) (a statemachine.Attachment, err error) {
	if len(row) == 0 {
		return a, nil
	}
	var v [4]uint64
	rest := row
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(rest); n <= 0 {
			return a, fmt.Errorf("%w: attachment %x", mvcc.ErrCorrupt, row)
		}
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return a, fmt.Errorf("%w: attachment %x", mvcc.ErrCorrupt, row)
	}
	return statemachine.Attachment{Kind: v[0], Sequence: v[1], SinceUnixMS: int64(v[2]), LingerMS: int64(v[3])}, nil
}

// attachment reads what was noted with the attachment of key to a lease.
func attachment(src mvcc.Source, lease statemachine.LeaseID, key []byte) (statemachine.Attachment, error) {
	row, _, err := src.Get(mvcc.LeaseKeyKey(lease, key))
	if err != nil {
		return statemachine.Attachment{}, err
	}
	return parseAttachment(row)
}

// scanAttached calls fn on the attached keys whose rows lie in [lower, upper), in order, until it returns false.
func scanAttached(src mvcc.Source, lower, upper []byte, fn func(statemachine.AttachedKey) bool) error {
	return mvcc.ScanRows(src, lower, upper, func(k, v []byte) (bool, error) {
		lease, key, ok := mvcc.ParseLeaseKeyKey(k)
		if !ok {
			return false, fmt.Errorf("%w: row key %x", mvcc.ErrCorrupt, k)
		}
		a, err := parseAttachment(v)
		return err == nil && fn(statemachine.AttachedKey{Lease: lease, Key: bytes.Clone(key), Attachment: a}), err
	})
}

// attachedTo returns the keys attached to a lease, in key order.
func attachedTo(src mvcc.Source, id statemachine.LeaseID) (keys []statemachine.AttachedKey, err error) {
	lower, upper := mvcc.LeaseBounds(id)
	err = scanAttached(src, lower, upper, func(k statemachine.AttachedKey) bool {
		keys = append(keys, k)
		return true
	})
	return keys, err
}

func leaseKeys(src mvcc.Source, id statemachine.LeaseID) ([][]byte, error) {
	attached, err := attachedTo(src, id)
	var keys [][]byte
	for _, k := range attached {
		keys = append(keys, k.Key)
	}
	return keys, err
}

func (b *batch) attachedTo(id statemachine.LeaseID) []statemachine.AttachedKey {
	keys, err := attachedTo(b.kv.Rows(), id)
	b.fail(err)
	return keys
}

// Attachment is what was noted with the attachment of key to a lease; the zero value where nothing was.
func (v *View) Attachment(lease statemachine.LeaseID, key []byte) (statemachine.Attachment, error) {
	return attachment(v.rows(), lease, key)
}

// AttachedKeys calls fn for the keys that are attached to leases, until it returns false or ctx is done: by lease,
// positive ids before negative ones, then by key; from (lease, key) on, so that one can go on where another call ended.
// (0, nil) is the first place.
func (v *View) AttachedKeys(
	ctx context.Context, lease statemachine.LeaseID, key []byte, fn func(statemachine.AttachedKey) bool,
) error {
	n := 0
	err := scanAttached(v.rows(), mvcc.LeaseKeyKey(lease, key), []byte{mvcc.SpaceLeaseKeys + 1},
		func(k statemachine.AttachedKey) bool {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return false
			}
			return fn(k)
		})
	if err == nil {
		err = ctx.Err()
	}
	return err
}

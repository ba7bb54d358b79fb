package machine

import (
	"context"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"hash/crc64"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// HashKV hashes the versions that reads at revisions in [Compacted(), rev] can see; rev 0 means the view's revision. It
// is equal on all members for equal (rev, compacted revision), whatever part of the older history they have removed.
// ErrFutureRev, ErrCompacted.
func (v *View) HashKV(
	ctx context.Context, rev statemachine.Revision,
) (sum uint32, hashed, compacted statemachine.Revision, err error) {
	switch {
	case rev > v.revision:
		return 0, 0, v.compacted, statemachine.ErrFutureRev
	case rev <= 0:
		rev = v.revision
	case rev < v.compacted:
		return 0, 0, v.compacted, statemachine.ErrCompacted
	}
	h := crc32.New(castagnoli)
	err = hashVersions(ctx, h, v.rows(), v.compacted, rev)
	return h.Sum32(), rev, v.compacted, err
}

func hashVersions(ctx context.Context, h hash.Hash, src mvcc.Source, compacted, rev statemachine.Revision) error {
	return mvcc.VisibleVersions(src, compacted, rev, func(key, record []byte) error {
		hashRow(h, key, record)
		return ctx.Err()
	})
}

func hashRow(h hash.Hash, key, value []byte) {
	var lengths [8]byte
	binary.BigEndian.PutUint32(lengths[:], uint32(len(key)))
	binary.BigEndian.PutUint32(lengths[4:], uint32(len(value)))
	h.Write(lengths[:])
	h.Write(key)
	h.Write(value)
}

// StateHash hashes the full logical state: every row but those of the history that no read can reach. Two replicas that
// applied the same log up to the same index have the same hash, however the log was cut into batches, wherever they
// restarted or received snapshots.
func (v *View) StateHash(ctx context.Context) (uint64, error) {
	h := crc64.New(crc64.MakeTable(crc64.ECMA))
	if err := hashVersions(ctx, h, v.rows(), v.compacted, v.revision); err != nil {
		return 0, err
	}
	for _, space := range []byte{
		mvcc.SpaceLive, mvcc.SpaceLeases, mvcc.SpaceLeaseKeys, mvcc.SpaceRenewals, mvcc.SpaceMeta,
		mvcc.SpaceMembers, mvcc.SpaceAlarms, mvcc.SpaceExecuted, mvcc.SpaceStreams, mvcc.SpaceSessions,
		mvcc.SpaceOutcomes,
		mvcc.SpaceBroken, mvcc.SpaceRefused,
	} {
		lower, upper := mvcc.SpaceBounds(space)
		err := mvcc.ScanRows(v.rows(), lower, upper, func(k, value []byte) (bool, error) {
			hashRow(h, k, value)
			return true, ctx.Err()
		})
		if err != nil {
			return 0, err
		}
	}
	return h.Sum64(), nil
}

// DiskUsage is the size of the store's files and of the live part of them, in bytes, both > 0.
func (m *Machine) DiskUsage() (total, inUse int64) {
	view, err := m.View()
	if err != nil {
		return 1, 1
	}
	defer view.Close()
	metrics := view.db.Metrics()
	total = int64(metrics.DiskSpaceUsage())
	inUse = int64(metrics.Total().TablesSize) + int64(metrics.MemTable.Size)
	return max(total, inUse, 1), max(inUse, 1)
}

package objects

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// LatchWait waits for one generation of a latch: the one that is there when it sees the latch first, if it is not given
// one.
type LatchWait struct {
	// Generation is the one waited for; 0: not known yet.
	Generation int64
}

// See takes the latch's key as it is at some revision, nil if there is none, later than what it saw before; it need not
// see all there was in between. It reports whether the generation has come to zero. ErrNotSet: the key was deleted, and
// nobody knows whether it did. ErrForeign.
func (w *LatchWait) See(kv *mvccpb.KeyValue) (zero bool, err error) {
	latch, err := Latch(kv)
	if err != nil {
		return false, err
	}
	if w.Generation == 0 {
		w.Generation = latch.Generation
	}
	switch {
	case latch.Generation == w.Generation:
		return latch.Remaining == 0, nil
	case latch.Generation > w.Generation && kv.CreateRevision <= w.Generation:
		return true, nil // it was not deleted since, and set anew only at zero
	}
	return false, fmt.Errorf("%w: generation %d", ErrNotSet, w.Generation)
}

// GateWait waits for the end of one closing of a gate: the one that is there when it sees the gate first, if it is not
// given one.
type GateWait struct {
	// Since is the revision at which the gate was closed; 0: not known yet.
	Since int64
}

// See takes the gate's key as it is at some revision, nil if there is none, later than what it saw before; it need not
// see all there was in between. It reports whether the gate is open, or was since then. The gate is closed whatever
// value the key has.
func (w *GateWait) See(kv *mvccpb.KeyValue) (passed bool) {
	if kv == nil {
		return true
	}
	if w.Since == 0 {
		w.Since = kv.CreateRevision
	}
	return kv.CreateRevision != w.Since
}

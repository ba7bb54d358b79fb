package machine

import (
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// plainRanges calls fn for what a plain deletion of keys means, which do not begin with layout.Reserved: all of them
// but the reserved ones.
func plainRanges(keys mvcc.Range, fn func(mvcc.Range)) {
	toTheEnd := len(keys.End) == 1 && keys.End[0] == 0
	if keys.Single() || string(keys.Key) >= layout.ReservedEnd || !toTheEnd && string(keys.End) <= layout.Reserved {
		fn(keys)
		return
	}
	fn(mvcc.Range{Key: keys.Key, End: []byte(layout.Reserved)})
	if toTheEnd || string(keys.End) > layout.ReservedEnd {
		fn(mvcc.Range{Key: []byte(layout.ReservedEnd), End: keys.End})
	}
}

package machine

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

const (
	freeRanges = 2  // of a transaction: its widest
	costOfPast = 4  // units: a key of a range at an earlier revision, where its newer versions are jumped over
	costOfDead = 4  // units: a key of a range that is deleted, of which three rows are written
	costShift  = 10 // bytes of values are counted in KiB
)

// work adds up what a transaction costs, in units.
type work struct {
	statemachine.Budget
	ranges int               // that are over
	widest [freeRanges]int64 // of these, greatest first; Work+1 stands for more, too
	rest   int64             // all other ranges, and what is no range
}

// exceeds says whether the budget is exceeded with a range that has cost so much up to now, 0 for none.
func (w *work) exceeds(running int64) bool {
	return w.rest+min(running, w.widest[freeRanges-1]) > w.Work
}

// ranged adds a range that has been read. It makes no difference by how much one is above the budget.
func (w *work) ranged(cost int64) {
	w.ranges++
	cost = min(cost, w.Work+1)
	for i, widest := range w.widest {
		if cost > widest {
			w.widest[i], cost = cost, widest
		}
	}
	w.rest += cost
}

// costOf is what it costs to read a version, nil for none.
func costOf(kv *mvccpb.KeyValue) int64 { return 1 + int64(len(kv.GetValue()))>>costShift }

// checkWork returns ErrTooManyOps if the operations on a path cost more than the budget leaves over, all counted in the
// store as it is before the first of them. It looks at the store only where that can be: where all ranges are free it
// does not.
func (b *batch) checkWork(p *txnPath, w *work) error {
	c := pathCost{batch: b, work: w}
	c.gather(p)
	if len(c.reads) > w.Reads {
		for _, key := range c.reads {
			if w.rest += costOf(b.get(key)); w.exceeds(0) {
				return statemachine.ErrTooManyOps
			}
		}
	}
	if w.ranges+len(c.ranges) <= freeRanges {
		return nil
	}
	for _, r := range c.ranges {
		if cost := c.cost(r); w.exceeds(cost) {
			return statemachine.ErrTooManyOps
		} else {
			w.ranged(cost)
		}
	}
	return nil
}

// pathCost counts what the operations on a path read and delete.
type pathCost struct {
	*batch
	work   *work
	reads  [][]byte // keys
	ranges []costlyRange
}

// costlyRange is a range that is read or deleted.
type costlyRange struct {
	mvcc.Range
	revision statemachine.Revision // 0: the latest
	each     int64                 // units for each key
}

func (c *pathCost) gather(p *txnPath) {
	for i, op := range p.ops {
		switch r := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			read := costlyRange{Range: mvcc.Range{Key: r.RequestRange.Key, End: r.RequestRange.RangeEnd}, each: 1}
			if rev := r.RequestRange.Revision; rev > 0 && rev < c.kv.Revision() {
				read.revision, read.each = rev, costOfPast
			}
			c.add(read)
		case *pb.RequestOp_RequestPut:
			if r.RequestPut.PrevKv || r.RequestPut.IgnoreValue {
				c.reads = append(c.reads, r.RequestPut.Key)
			}
		case *pb.RequestOp_RequestDeleteRange:
			d := r.RequestDeleteRange
			c.add(costlyRange{Range: mvcc.Range{Key: d.Key, End: d.RangeEnd}, each: costOfDead})
		case *pb.RequestOp_RequestTxn:
			c.gather(p.nested[i])
		}
	}
}

func (c *pathCost) add(r costlyRange) {
	if r.Single() {
		c.reads = append(c.reads, r.Key)
	} else {
		c.ranges = append(c.ranges, r)
	}
}

// cost is what a range costs. It goes no further than it must to know that the budget is exceeded, or that it may be.
func (c *pathCost) cost(r costlyRange) (cost int64) {
	visit := func(value int) bool {
		cost += r.each + int64(value)>>costShift
		return cost <= c.work.Work && !c.work.exceeds(cost)
	}
	if r.revision != 0 {
		c.fail(mvcc.EachKept(c.kv.Rows(), r.Range, r.revision, c.compacted, visit))
		return cost
	}
	c.fail(mvcc.EachLatest(c.kv.Rows(), r.Range, func(kv *mvccpb.KeyValue) bool { return visit(len(kv.Value)) }))
	return cost
}

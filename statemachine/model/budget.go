package model

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
)

// work is what a transaction costs.
type work struct {
	ranges []int64
	rest   int64
}

// exceeds reports whether all but the two widest ranges are too much.
func (w *work) exceeds(b statemachine.Budget) bool {
	slices.Sort(w.ranges)
	sum := w.rest
	for _, cost := range w.ranges[:max(0, len(w.ranges)-2)] {
		sum += cost
	}
	return sum > b.Work
}

func kib(value []byte) int64 { return int64(len(value) / 1024) }

// read adds what a compare looked at.
func (w *work) read(rangeEnd []byte, found []*mvccpb.KeyValue) {
	if len(rangeEnd) == 0 {
		w.rest++
		for _, kv := range found {
			w.rest += kib(kv.Value)
		}
		return
	}
	cost := int64(len(found))
	for _, kv := range found {
		cost += kib(kv.Value)
	}
	w.ranges = append(w.ranges, cost)
}

// affords adds what the operations on the path cost, and reports whether that is within the budget.
func (m *Model) affords(b branches, r *pb.TxnRequest, w *work) bool {
	var reads []int64
	m.addOps(b, r, w, &reads)
	if len(reads) > m.program.Budget.Reads {
		for _, cost := range reads {
			w.rest += cost
		}
	}
	return !w.exceeds(m.program.Budget)
}

// addOps adds what the operations on the path cost: ranges to w, reads of single keys to reads.
func (m *Model) addOps(b branches, r *pb.TxnRequest, w *work, reads *[]int64) {
	for _, op := range b.ops(r) {
		put, read, del := op.GetRequestPut(), op.GetRequestRange(), op.GetRequestDeleteRange()
		switch {
		case op.GetRequestTxn() != nil:
			m.addOps(b, op.GetRequestTxn(), w, reads)
		case put != nil && (put.PrevKv || put.IgnoreValue):
			*reads = append(*reads, m.costOfRead(put.Key))
		case read != nil && len(read.RangeEnd) == 0:
			*reads = append(*reads, m.costOfRead(read.Key))
		case read != nil:
			w.ranges = append(w.ranges, m.costOfRange(read))
		case del != nil && len(del.RangeEnd) == 0:
			*reads = append(*reads, m.costOfRead(del.Key))
		case del != nil:
			cost := int64(0)
			for _, kv := range m.versions(del.Key, del.RangeEnd, m.Revision()) {
				cost += 4 + kib(kv.Value)
			}
			w.ranges = append(w.ranges, cost)
		}
	}
}

func (m *Model) costOfRead(key []byte) int64 { return 1 + kib(m.latest(key).GetValue()) }

func (m *Model) costOfRange(r *pb.RangeRequest) (cost int64) {
	if r.Revision <= 0 || r.Revision >= m.Revision() {
		for _, kv := range m.versions(r.Key, r.RangeEnd, m.Revision()) {
			cost += 1 + kib(kv.Value)
		}
		return cost
	}
	for _, key := range m.kept(r.Key, r.RangeEnd) {
		cost += 4 + kib(m.at(key, r.Revision).GetValue())
	}
	return cost
}

// kept are the keys in a range of which the history from the compacted revision on has something to say: they exist
// there, or were changed at it or later.
func (m *Model) kept(start, end []byte) (keys [][]byte) {
	for _, c := range m.history {
		key := c.event.Kv.Key
		known := slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
		if !known && within(key, start, end) && (c.main >= m.compacted || m.at(key, m.compacted) != nil) {
			keys = append(keys, key)
		}
	}
	return keys
}

package machine

import (
	"bytes"
	"context"
	"math"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// answerSize bounds what a request of a session reads, because the answer is stored with the session. It is known
// before the first write, when a request can still be refused: every key that is read counts with its size as it
// stands, and with that of what the request itself puts there.
type answerSize struct {
	*batch
	puts []*pb.PutRequest // in key order
	left int              // bytes
}

// checkAnswer returns ErrResponseTooLarge if the operations on the path would read more than MaxOutcomeBytes.
func (b *batch) checkAnswer(p *txnPath) error {
	a := &answerSize{batch: b, left: statemachine.MaxOutcomeBytes}
	a.gather(p)
	slices.SortFunc(a.puts, func(x, y *pb.PutRequest) int { return bytes.Compare(x.Key, y.Key) })
	a.path(p)
	if a.left < 0 {
		return statemachine.ErrResponseTooLarge
	}
	return nil
}

// gather finds the puts on the path.
func (a *answerSize) gather(p *txnPath) {
	for i, op := range p.ops {
		if put := op.GetRequestPut(); put != nil {
			a.puts = append(a.puts, put)
		}
		if nested := p.nested[i]; nested != nil {
			a.gather(nested)
		}
	}
}

// path takes off what the operations on the path read.
func (a *answerSize) path(p *txnPath) {
	for i, op := range p.ops {
		switch r := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			if !r.RequestRange.CountOnly {
				a.read(r.RequestRange)
			}
		case *pb.RequestOp_RequestPut:
			if r.RequestPut.PrevKv {
				a.read(&pb.RangeRequest{Key: r.RequestPut.Key})
			}
		case *pb.RequestOp_RequestDeleteRange:
			if d := r.RequestDeleteRange; d.PrevKv {
				plainRanges(mvcc.Range{Key: d.Key, End: d.RangeEnd}, func(keys mvcc.Range) {
					a.read(&pb.RangeRequest{Key: keys.Key, RangeEnd: keys.End})
				})
			}
		case *pb.RequestOp_RequestTxn:
			a.path(p.nested[i])
		}
	}
}

// read takes off what a range reads, whatever its filters leave of that. It looks at a few keys at a time, until the
// bound is reached.
func (a *answerSize) read(r *pb.RangeRequest) {
	const page = 16
	sel := mvcc.Select{Range: mvcc.Range{Key: r.Key, End: r.RangeEnd}, Uncounted: true}
	if r.Revision > 0 && r.Revision < a.kv.Revision() {
		sel.Revision = r.Revision
	}
	left := readLimit(r)
	if left == 0 {
		left = math.MaxInt64
	}
	for a.left >= 0 && left > 0 {
		sel.Limit = min(page, left)
		kvs, _, err := mvcc.Collect(context.Background(), a.kv.Rows(), sel)
		a.fail(err)
		for _, kv := range kvs {
			a.takeOff(kv, r.KeysOnly)
		}
		left -= int64(len(kvs))
		if int64(len(kvs)) < sel.Limit || sel.Range.Single() {
			break
		}
		sel.Range.Key = append(bytes.Clone(kvs[len(kvs)-1].Key), 0)
	}
	a.readPuts(r)
}

// readPuts takes off those of the puts that are in a range.
func (a *answerSize) readPuts(r *pb.RangeRequest) {
	keys := mvcc.Range{Key: r.Key, End: r.RangeEnd}
	from, _ := slices.BinarySearchFunc(a.puts, r.Key, func(p *pb.PutRequest, key []byte) int {
		return bytes.Compare(p.Key, key)
	})
	for _, put := range a.puts[from:] {
		if a.left < 0 || !keys.Contains(put.Key) {
			break
		}
		a.takeOff(&mvccpb.KeyValue{Key: put.Key, Value: put.Value}, r.KeysOnly)
	}
}

// takeOff takes off what a version is in an answer, about.
func (a *answerSize) takeOff(kv *mvccpb.KeyValue, keysOnly bool) {
	const fields = 50 // at most, of revisions, lease and lengths
	a.left -= len(kv.Key) + fields
	if !keysOnly {
		a.left -= len(kv.Value)
	}
}

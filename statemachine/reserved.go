package statemachine

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/proto/layout"
)

// CheckPlain returns the refusal of a plain put or deletion of key, or of a deletion of a range that begins with it:
// nil unless the key is reserved. The error wraps ErrInvalid. Members ask before they propose, so that a client learns
// of it at once; the apply asks again, as commands of any member come there.
//
// Below layout.Reserved only procedures put and delete keys one by one: what stands there is taken for what procedures
// wrote. Plain puts there are refused, and so are plain deletions of a key or of a range that begins there, in whatever
// branch of a transaction, taken or not. A deletion of a range that begins before passes over what is there, as if it
// did not exist. Everybody may read and watch it, and a lease that is revoked or expires takes all of its keys along,
// there as anywhere.
func CheckPlain(key []byte) error {
	if !bytes.HasPrefix(key, []byte(layout.Reserved)) {
		return nil
	}
	return fmt.Errorf("%w: key %+.64q begins with %q, where nothing is put or deleted by hand: use the requests of "+
		"coord.v1, which coordctl's verbs and the SDK make", ErrInvalid, key, layout.Reserved)
}

// CheckPlainTxn is CheckPlain for all operations of a transaction, in all its branches.
func CheckPlainTxn(r *pb.TxnRequest) error {
	for _, ops := range [...][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			var err error
			switch o := op.GetRequest().(type) {
			case *pb.RequestOp_RequestPut:
				err = CheckPlain(o.RequestPut.GetKey())
			case *pb.RequestOp_RequestDeleteRange:
				err = CheckPlain(o.RequestDeleteRange.GetKey())
			case *pb.RequestOp_RequestTxn:
				err = CheckPlainTxn(o.RequestTxn)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

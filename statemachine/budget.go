package statemachine

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Budget bounds the work of a transaction. Every replica applies every command, and all commands wait for the one that
// is being applied: so its work is bounded by what every replica finds alike, in the request and in the replicated
// state, never by what happens to be in a cache or on a disk. A command within the budget blocks the others for well
// under a second.
//
// What is refused is the product: many compares, or nested lists, of many keys each. What is linear passes, as in etcd:
// the two widest ranges of a transaction are free, so that a condition on a range and what is done with it may take in
// all keys there are. Nothing that frees is refused.
//
// DefaultBudget is a constant of the cluster's version: two replicas with other ones would come to other states. Others
// are for tests.
type Budget struct {
	// Ops is how many operations and compares a transaction may have, in all branches; one that is nested counts once
	// for each level it stands at or below. Each may be a look into the store, of 5 µs or so, and the member that takes
	// the request compares each with others once a level. (etcd's max-txn-ops bounds each list: by default a
	// transaction has 384 at most, or many more by nesting.)
	Ops int
	// Reads is how many operations on the chosen path may read one key each for nothing; above that all of them count,
	// because the values that 20,000 gets read may be 30 GB. It is as many as etcd's clients may put into one list by
	// default.
	Reads int
	// Work is how much all else may cost that is read before the first write. A unit is a key of a range, of 1 µs or
	// so, or a KiB of its value.
	Work int64
}

// DefaultBudget is the budget of this version.
var DefaultBudget = Budget{Ops: 20_000, Reads: 128, Work: 250_000}

// CheckTxn returns ErrTooManyOps if a transaction has more operations than the budget.
func (b Budget) CheckTxn(r *pb.TxnRequest) error {
	if countOps(r, 1, b.Ops) < 0 {
		return ErrTooManyOps
	}
	return nil
}

// countOps takes what a transaction has off left. It ends when nothing is left.
func countOps(r *pb.TxnRequest, level, left int) int {
	left -= level * (len(r.GetCompare()) + len(r.GetSuccess()) + len(r.GetFailure()))
	for _, ops := range [...][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if left < 0 {
				return left
			}
			if nested := op.GetRequestTxn(); nested != nil {
				left = countOps(nested, level+1, left)
			}
		}
	}
	return left
}

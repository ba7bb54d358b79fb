package difftest

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// required returns all that a run must reach.
func required() []string {
	names := append([]string(nil), requiredNames...)
	for _, target := range []pb.RangeRequest_SortTarget{0, 1, 2, 3, 4} {
		for _, order := range []pb.RangeRequest_SortOrder{0, 1, 2} {
			names = append(names, fmt.Sprintf("range/sort/%s/%s", target, order),
				fmt.Sprintf("range/sort/%s/%s/limited", target, order))
		}
	}
	for _, target := range []pb.Compare_CompareTarget{0, 1, 2, 3, 4} {
		for _, result := range []pb.Compare_CompareResult{0, 1, 2, 3} {
			for _, keys := range []string{"point", "range"} {
				names = append(names, fmt.Sprintf("compare/%s/%s/%s/true", target, result, keys),
					fmt.Sprintf("compare/%s/%s/%s/false", target, result, keys))
			}
		}
	}
	return names
}

var requiredNames = []string{
	"range/shape/point", "range/shape/all", "range/shape/from key", "range/shape/empty", "range/shape/inverted",
	"range/shape/prefix", "range/shape/range",
	"range/revision/negative", "range/revision/latest", "range/revision/compacted at", "range/revision/current",
	"range/revision/past",
	"range/serializable", "range/linearizable", "range/count_only", "range/keys_only", "range/keys_only by value",
	"range/limit/more", "range/limit/no more", "range/limit/negative", "range/limit/exact",
	"range/filter/min_mod", "range/filter/max_mod", "range/filter/min_create", "range/filter/max_create",
	"rangestream/revision/negative", "rangestream/revision/latest", "rangestream/revision/compacted at",
	"rangestream/revision/current", "rangestream/revision/past", "rangestream/shape/point", "rangestream/shape/all",
	"rangestream/shape/from key", "rangestream/shape/empty", "rangestream/shape/inverted", "rangestream/shape/range",
	"rangestream/one chunk", "rangestream/two chunks", "rangestream/more chunks", "rangestream/limit/more",
	"rangestream/limit/more, chunks", "rangestream/limit/negative", "rangestream/count_only", "rangestream/keys_only",
	"rangestream/serializable", "rangestream/linearizable", "rangestream/ascending keys",
	"put/ok", "put/prev_kv", "put/prev_kv/absent", "put/lease", "put/lease picked by the server", "put/lease detached",
	"put/ignore_value", "put/ignore_lease", "put/empty value",
	"delete/shape/point", "delete/shape/all", "delete/shape/from key", "delete/shape/empty", "delete/shape/inverted",
	"delete/shape/prefix", "delete/shape/range", "delete/none", "delete/one", "delete/several", "delete/prev_kv",
	"txn/compares/all hold", "txn/compares/not all hold", "txn/no compare", "txn/no operation", "txn/failure branch",
	"txn/limit/compare", "txn/limit/success", "txn/limit/failure", "txn/read-only", "txn/op/range", "txn/op/put",
	"txn/op/delete",
	"txn/op/delete of nothing", "txn/range after a put", "txn/range after a delete", "txn/range of a revision",
	"txn/put with a lease", "txn/put after a delete of the key", "txn/delete after a put of the key",
	"txn/nested/1", "txn/nested/2", "txn/nested/failure branch", "txn/nested/read-only",
	"compact/ok", "compact/physical", "compact/current",
	"lease/grant/picked id", "lease/grant/given id", "lease/grant/negative id", "lease/grant/no ttl",
	"lease/grant/raised ttl",
	"lease/grant/largest ttl", "lease/revoke", "lease/keep-alive/known", "lease/keep-alive/unknown",
	"lease/keep-alive/several on one stream", "lease/ttl/unknown", "lease/ttl/without keys", "lease/ttl/no keys",
	"lease/ttl/keys",
	"lease/list/empty", "lease/list/several",
	"watch/shape/point", "watch/shape/all", "watch/shape/from key", "watch/shape/prefix", "watch/shape/range",
	"watch/progress_notify", "watch/progress_notify/notified", "watch/progress request",
	"watch/progress request/silent",
	"watch/watch_id/given", "watch/watch_id/negative", "watch/watch_id/picked", "watch/empty key",
	"watch/start/now", "watch/start/past", "watch/start/compacted at", "watch/start/compacted", "watch/start/future",
	"watch/start/future/reached", "watch/cancel/known", "watch/cancel/unknown", "watch/cancel/compacted",
	"watch/client side closed", "watch/event/PUT", "watch/event/DELETE", "watch/event/PUT/prev_kv",
	"watch/event/DELETE/prev_kv",
	"watch/prev_kv", "watch/prev_kv/absent", "watch/fragment", "watch/fragment/split", "watch/filter/NOPUT",
	"watch/filter/NODELETE",
	"watch/refused/mvcc: watcher range is empty", "watch/refused/mvcc: duplicate watch ID provided on the WatchStream",
	"watch/refused/etcdserver: mvcc: required revision has been compacted",
	"error/InvalidArgument/etcdserver: key is not provided",
	"error/InvalidArgument/etcdserver: key not found",
	"error/InvalidArgument/etcdserver: value is provided",
	"error/InvalidArgument/etcdserver: lease is provided",
	"error/InvalidArgument/etcdserver: too many operations in txn request",
	"error/InvalidArgument/etcdserver: duplicate key given in txn request",
	"error/InvalidArgument/etcdserver: invalid sort option",
	"error/InvalidArgument/etcdserver: request is too large",
	"error/ResourceExhausted/grpc: received message larger than max",
	"error/OutOfRange/etcdserver: mvcc: required revision has been compacted",
	"error/OutOfRange/etcdserver: mvcc: required revision is a future revision",
	"error/Compact/OutOfRange/etcdserver: mvcc: required revision has been compacted",
	"error/Compact/OutOfRange/etcdserver: mvcc: required revision is a future revision",
	"error/RangeStream/OutOfRange/etcdserver: mvcc: required revision has been compacted",
	"error/RangeStream/OutOfRange/etcdserver: mvcc: required revision is a future revision",
	"error/RangeStream/Unimplemented/RangeStream does not support custom sort orders",
	"error/RangeStream/Unimplemented/RangeStream does not support revision filters",
	"error/OutOfRange/etcdserver: too large lease TTL",
	"error/ResourceExhausted/etcdserver: mvcc: database space exceeded",
	"error/LeaseGrant/ResourceExhausted/etcdserver: mvcc: database space exceeded",
	"error/NotFound/etcdserver: requested lease not found",
	"error/LeaseRevoke/NotFound/etcdserver: requested lease not found",
	"error/FailedPrecondition/etcdserver: lease already exists",
	"error/Txn/InvalidArgument/etcdserver: key is not provided",
	"error/Txn/InvalidArgument/etcdserver: key not found",
	"error/Txn/InvalidArgument/etcdserver: value is provided",
	"error/Txn/InvalidArgument/etcdserver: lease is provided",
	"error/Txn/InvalidArgument/etcdserver: invalid sort option",
	"error/Txn/OutOfRange/etcdserver: mvcc: required revision has been compacted",
	"error/Txn/OutOfRange/etcdserver: mvcc: required revision is a future revision",
	"error/Txn/NotFound/etcdserver: requested lease not found",
	"error/Txn/ResourceExhausted/etcdserver: mvcc: database space exceeded",
	"error/DeleteRange/InvalidArgument/etcdserver: key is not provided",
	"error/RangeStream/InvalidArgument/etcdserver: key is not provided",
	"error/RangeStream/InvalidArgument/etcdserver: invalid sort option",
}

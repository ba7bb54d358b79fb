package crashtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/client"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

// unchecked builds a coordd that lets anybody put and delete what only procedures write: rows there may be what a
// procedure of another release, or a fault, left. Whoever meets them must be told, and nobody else may notice.
func unchecked(t testing.TB) string {
	return altered(t, edit{"statemachine/reserved.go", "func CheckPlain(key []byte) error {\n",
		"if len(key) >= 0 { return nil }\n"})
}

// forgeRows puts and deletes rows below the reserved prefix, all at one revision: of what is there, or would be.
func (f *fuzzed) forgeRows(ctx context.Context, c *choices, conn *grpc.ClientConn) bool {
	kv := pb.NewKVClient(conn)
	if c.oneIn(4) {
		from, _ := f.forgedRow(c)
		there, err := kv.Range(ctx, &pb.RangeRequest{
			Key: []byte(from), RangeEnd: []byte("_coord0"), Limit: 8, KeysOnly: true, Serializable: true,
		})
		if err != nil {
			return false
		}
		for _, kv := range there.Kvs {
			f.learnReserved(string(kv.Key))
		}
	}
	r := &pb.TxnRequest{}
	var touched []string
	for range 1 + c.below(3) {
		key, value := f.forgedRow(c)
		if slices.Contains(touched, key) {
			continue
		}
		touched = append(touched, key)
		op := &pb.RequestOp{
			Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}},
		}
		if c.below(4) > 0 {
			put := &pb.PutRequest{Key: []byte(key), Value: value}
			switch lease, _ := strconv.ParseInt(key[strings.LastIndexByte(key, '/')+1:], 16, 64); {
			case c.oneIn(2):
				put.Lease = lease // 0 mostly, and the session's of an entry
			case c.oneIn(4):
				put.Lease = int64(f.number(c))
			}
			op = &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
		}
		r.Success = append(r.Success, op)
	}
	_, err := kv.Txn(ctx, r)
	return err == nil
}

// places are where rows are forged: of what the recipes, the registry and configurations keep under a name, with the
// message that belongs there. entry: the row is of a lease, and its key says so.
var places = []struct {
	key   func(name, entry string) string
	value proto.Message
}{
	{inQueue(coordv1.QueueKind_QUEUE_RWLOCK, "/tally"), &recipesv1.Tally{}},
	{inQueue(coordv1.QueueKind_QUEUE_SEMAPHORE, "/tally"), &recipesv1.Tally{}},
	{inQueue(coordv1.QueueKind_QUEUE_BARRIER, "/tally"), &recipesv1.Tally{}},
	{inQueue(coordv1.QueueKind_QUEUE_SEMAPHORE, "/limit"), &recipesv1.SemaphoreState{}},
	{inQueue(coordv1.QueueKind_QUEUE_BARRIER, "/state"), &coordv1.BarrierState{}},
	{inQueue(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, "/leader"), &recipesv1.Leader{}},
	{inQueue(coordv1.QueueKind_QUEUE_RWLOCK, ""), &recipesv1.Member{}},
	{inQueue(coordv1.QueueKind_QUEUE_SEMAPHORE, ""), &recipesv1.Member{}},
	{inQueue(coordv1.QueueKind_QUEUE_BARRIER, ""), &recipesv1.Member{}},
	{inQueue(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, ""), &recipesv1.Candidate{}},
	{func(name, entry string) string { return layout.AskKey(name + entry) }, &recipesv1.Ask{}},
	{func(name, _ string) string { return layout.TransferKey(name) }, &recipesv1.Transfer{}},
	{func(name, _ string) string { return layout.Counter.Key(name) }, &recipesv1.Counter{}},
	{func(name, _ string) string { return layout.Sequence.Key(name) }, &recipesv1.Sequence{}},
	{func(name, _ string) string { return layout.Latch.Key(name) }, &recipesv1.Latch{}},
	{func(name, _ string) string { return layout.Gate.Key(name) }, &recipesv1.Gate{}},
	{func(name, entry string) string { return layout.Group.Key(name) + entry }, nil},
	{layout.InstanceKey, &coordv1.ServiceInstance{}},
	{layout.OrderKey, &coordv1.ServiceOrder{}},
	{layout.ProbedKey, &coordv1.ServiceProbed{}},
	{func(name, _ string) string { return layout.CurrentKey(name) }, &coordv1.ConfigVersion{}},
	{func(name, _ string) string { return layout.VersionKey(name, 1) }, &coordv1.ConfigVersion{}},
	{func(name, _ string) string { return layout.SchemasKey(name) }, &coordv1.ConfigSchemas{}},
	{layout.StatusKey, &coordv1.ConfigStatus{}},
}

// inQueue are the keys of a queue of a kind: a record of it, or, without one, an entry.
func inQueue(kind coordv1.QueueKind, record string) func(name, entry string) string {
	return func(name, entry string) string {
		if record != "" {
			entry = record
		}
		return layout.QueueOf(kind, name) + entry
	}
}

// forgedRow is where a row is forged, and what.
func (f *fuzzed) forgedRow(c *choices) (key string, value []byte) {
	at := pick(c, places...)
	key = at.key(f.text(c), "/"+strconv.FormatInt(int64(f.number(c)), 16)+pick(c, "", "", "", ".o"))
	switch {
	case c.oneIn(16):
		key = layout.Reserved + f.text(c)
	case c.below(3) == 0:
		if known := f.someKey(c); known != "" {
			key = known
		}
	case c.below(4) == 0: // the entry of a session, or a record of its queue
		if g := f.lastGrant(c); strings.HasPrefix(g.key, layout.Reserved) {
			key = g.key[:strings.LastIndexByte(g.key, '/')] + pick(c, g.key[strings.LastIndexByte(g.key, '/'):],
				"/tally", "/limit", "/state", "/leader")
		}
	}
	of := at.value
	if c.oneIn(8) {
		of = pick(c, places...).value
	}
	if of == nil || c.oneIn(8) {
		return key, []byte(f.text(c))
	}
	m := of.ProtoReflect().New()
	f.fill(c, m, 0)
	value, _ = proto.Marshal(m.Interface())
	switch c.below(8) {
	case 0:
		value = value[:len(value)-c.below(len(value)+1)]
	case 1:
		value = append(value, c.bytes(1+c.below(8))...)
	}
	return key, value
}

// lastGrant is one of the last grants; nothing if there was none.
func (s *told) lastGrant(c *choices) toldGrant {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.grants) == 0 {
		return toldGrant{}
	}
	return s.grants[max(0, len(s.grants)-1-c.below(8))]
}

// someKey is one that there was below the reserved prefix; "" if none was ever seen.
func (s *told) someKey(c *choices) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reserved) == 0 {
		return ""
	}
	return s.reserved[c.below(len(s.reserved))]
}

func (s *told) learnReserved(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved = remember(s.reserved, key)
}

// untouched has somebody use, under names that nobody else has, what rows are forged of.
func untouched(ctx context.Context, c *client.Client, name string) error {
	lock, err := c.Lock(name).TryAcquire(ctx)
	if err != nil {
		return fmt.Errorf("a lock: %w", err)
	}
	writer, err := c.RWLock(name).TryAcquire(ctx, client.Write)
	if err != nil {
		return fmt.Errorf("a read-write lock: %w", err)
	}
	permits, err := c.Semaphore(name, 2).TryAcquire(ctx, 2)
	if err != nil {
		return fmt.Errorf("a semaphore: %w", err)
	}
	leads, err := c.Election(name).TryCampaign(ctx, []byte("v"), client.WithPriority(5))
	if err != nil {
		return fmt.Errorf("an election with priorities: %w", err)
	}
	inside, err := c.Barrier(name, 1).Enter(ctx)
	if err != nil {
		return fmt.Errorf("a barrier: %w", err)
	}
	if n, err := c.Counter(name).Add(ctx, 1); err != nil || n != 1 {
		return fmt.Errorf("a counter is %d: %w", n, err)
	}
	if n, err := c.Sequence(name).Next(ctx); err != nil || n != 1 {
		return fmt.Errorf("a sequence is %d: %w", n, err)
	}
	return errors.Join(lock.Release(ctx), writer.Release(ctx), permits.Release(ctx), leads.Resign(ctx),
		inside.Leave(ctx))
}

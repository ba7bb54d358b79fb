package difftest

import (
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// harnessSequences is how many sequences a damage may take to be noticed. Rare requests need some.
const harnessSequences = 60

// TestHarnessCatchesDifferences compares etcd with an etcd whose answers are damaged on the way, and demands that
// every damage is reported, and nothing without damage.
func TestHarnessCatchesDifferences(t *testing.T) {
	t.Parallel()
	s := &saboteur{}
	p, stop, err := newPair(t, startEtcd, s.options()...)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	seed := uint64(1)
	for range 10 {
		seed++
		if r, err := p.sequence(generate(seed), newCoverage()); err != nil {
			t.Fatalf("without damage: %s", report(seed, r, err))
		}
	}
	long := p.subject.patience
	for _, d := range damages() {
		t.Run(d.name, func(t *testing.T) {
			// Only what is noticed by waiting in vain need not wait for long. For all others a machine that stands
			// still for some seconds must not look like something that does not come.
			p.etcd.patience, p.subject.patience = long, long
			if strings.HasPrefix(d.want, "waiting for") {
				p.etcd.patience, p.subject.patience = 4*time.Second, 4*time.Second
			}
			s.damage.Store(&d)
			defer s.damage.Store(nil)
			for range harnessSequences {
				seed++
				_, err := p.sequence(append(generate(seed), step{d.with, seed}), newCoverage())
				if err == nil {
					continue
				}
				if !strings.Contains(err.Error(), d.want) {
					t.Fatalf("reported, but not as %q: %v", d.want, err)
				}
				return
			}
			t.Fatalf("not noticed in %d sequences", harnessSequences)
		})
	}
}

// change makes a damage of a function that changes one kind of message wherever it comes.
func change[M proto.Message](name, want string, f func(M)) damage {
	return damage{
		name: name, want: want,
		answer: func(_, m proto.Message, err error) error {
			if a, ok := m.(M); ok && err == nil {
				f(a)
			}
			return err
		},
		stream: func(m proto.Message) []proto.Message {
			if a, ok := m.(M); ok {
				f(a)
			}
			return []proto.Message{m}
		},
	}
}

// in makes a kind of step part of every sequence.
func (d damage) in(kind kindID) damage {
	d.with = kind
	return d
}

// onEvents makes a damage of a function that gets the watch responses with events, without those of the sentinel.
func onEvents(name, want string, f func(*pb.WatchResponse) []proto.Message) damage {
	return damage{name: name, want: want, stream: func(m proto.Message) []proto.Message {
		w, ok := m.(*pb.WatchResponse)
		if !ok || len(w.Events) == 0 || string(w.Events[0].Kv.Key) == sentinelKey {
			return []proto.Message{m}
		}
		return f(w)
	}}
}

// onErrors makes a damage of a function that replaces errors.
func onErrors(name, want string, f func(*status.Status) error) damage {
	return damage{name: name, want: want, answer: func(_, _ proto.Message, err error) error {
		if err == nil {
			return nil
		}
		return f(status.Convert(err))
	}}
}

func damages() []damage {
	return append(answerDamages(), watchDamages()...)
}

func answerDamages() []damage {
	return []damage{
		change("put without prev_kv", "prev_kv", func(m *pb.PutResponse) { m.PrevKv = nil }),
		change("put with the next revision", "header.revision", func(m *pb.PutResponse) { m.Header.Revision++ }),
		change("header without the cluster", "cluster_id", func(m *pb.PutResponse) { m.Header.ClusterId = 0 }),
		change("count", "count", func(m *pb.RangeResponse) { m.Count++ }),
		change("more", "more", func(m *pb.RangeResponse) { m.More = !m.More }),
		change("range with the revision asked for", "header.revision", func(m *pb.RangeResponse) {
			if len(m.Kvs) > 0 {
				m.Header.Revision = m.Kvs[0].ModRevision - 1
			}
		}),
		change("last key missing", "kvs", func(m *pb.RangeResponse) { m.Kvs = m.Kvs[:max(0, len(m.Kvs)-1)] }),
		change("two keys in the wrong order", "kvs", func(m *pb.RangeResponse) {
			if len(m.Kvs) > 1 {
				m.Kvs[0], m.Kvs[1] = m.Kvs[1], m.Kvs[0]
			}
		}),
		change("version", "version", func(m *pb.RangeResponse) {
			for _, kv := range m.Kvs {
				kv.Version++
			}
		}),
		change("another lease on a key", "lease", func(m *pb.RangeResponse) {
			for _, kv := range m.Kvs {
				if kv.Lease != 0 {
					kv.Lease++
				}
			}
		}),
		change("header on every chunk", "header", func(m *pb.RangeStreamResponse) {
			m.RangeResponse.Header = &pb.ResponseHeader{Revision: 1}
		}),
		change("deleted", "deleted", func(m *pb.DeleteRangeResponse) { m.Deleted++ }),
		change("txn with the other branch", "succeeded", func(m *pb.TxnResponse) { m.Succeeded = !m.Succeeded }),
		change("nested header", "response_", func(m *pb.TxnResponse) {
			for _, op := range m.Responses {
				if a := op.GetResponseRange(); a != nil {
					a.Header = nil
				}
				if a := op.GetResponsePut(); a != nil {
					a.Header.Revision--
				}
			}
		}),
		change("granted ttl", "TTL", func(m *pb.LeaseGrantResponse) { m.TTL-- }),
		change("keep-alive ttl", "TTL", func(m *pb.LeaseKeepAliveResponse) { m.TTL++ }),
		change("keys of a lease", "keys", func(m *pb.LeaseTimeToLiveResponse) { m.Keys = nil }),
		change("lease missing in the list", "leases", func(m *pb.LeaseLeasesResponse) {
			m.Leases = m.Leases[:max(0, len(m.Leases)-1)]
		}),
		change("revoke with an older revision", "header.revision",
			func(m *pb.LeaseRevokeResponse) { m.Header.Revision-- }),
		change("server version", "version", func(m *pb.StatusResponse) { m.Version = "3.7.2" }),
		change("alarm missing", "alarms", func(m *pb.AlarmResponse) { m.Alarms = nil }).in(kindNoSpace),
		onErrors("error text", "status", func(s *status.Status) error {
			return status.Error(s.Code(), s.Message()+".")
		}),
		onErrors("error code", "status", func(s *status.Status) error {
			return status.Error(codes.Unknown, s.Message())
		}),
		onErrors("no error", "status", func(*status.Status) error { return nil }),
		{name: "unexpected error", want: "status", answer: func(req, _ proto.Message, err error) error {
			if q, ok := req.(*pb.PutRequest); ok && q.Lease != 0 {
				return status.Error(codes.NotFound, "etcdserver: requested lease not found")
			}
			return err
		}},
	}
}

func watchDamages() []damage {
	same := func(m *pb.WatchResponse) []proto.Message { return []proto.Message{m} }
	nth := 0
	return []damage{
		onEvents("event lost", "only in the first", func(m *pb.WatchResponse) []proto.Message { return nil }),
		onEvents("event twice", "one revision split", func(m *pb.WatchResponse) []proto.Message {
			if m.Fragment {
				return same(m)
			}
			// The last one alone: a response that is late tells several revisions, and all of them again would be out
			// of order.
			again := proto.Clone(m).(*pb.WatchResponse)
			again.Events = again.Events[len(again.Events)-1:]
			return []proto.Message{m, again}
		}),
		onEvents("event without prev_kv", "prev_kv", func(m *pb.WatchResponse) []proto.Message {
			for _, ev := range m.Events {
				ev.PrevKv = nil
			}
			return same(m)
		}),
		onEvents("event of another type", "type", func(m *pb.WatchResponse) []proto.Message {
			m.Events[0].Type = 1 - m.Events[0].Type
			return same(m)
		}),
		onEvents("revision split", "one revision split", func(m *pb.WatchResponse) []proto.Message {
			if len(m.Events) < 2 {
				return same(m)
			}
			rest := proto.Clone(m).(*pb.WatchResponse)
			m.Events, rest.Events = m.Events[:1], rest.Events[1:]
			return []proto.Message{m, rest}
		}),
		onEvents("events out of order", "out of order", func(m *pb.WatchResponse) []proto.Message {
			first, last := m.Events[0], m.Events[len(m.Events)-1]
			if first.Kv.ModRevision == last.Kv.ModRevision {
				return same(m)
			}
			m.Events[0], m.Events[len(m.Events)-1] = last, first
			return same(m)
		}),
		onEvents("header behind the event", "header revision before", func(m *pb.WatchResponse) []proto.Message {
			m.Header.Revision = m.Events[0].Kv.ModRevision - 1
			return same(m)
		}),
		onEvents("fragment not asked for", "a fragment nobody asked for", func(m *pb.WatchResponse) []proto.Message {
			m.Fragment = true
			return same(m)
		}),
		onEvents("empty response not asked for", "an empty response nobody asked for",
			func(m *pb.WatchResponse) []proto.Message {
				empty := &pb.WatchResponse{Header: m.Header, WatchId: m.WatchId}
				return []proto.Message{m, empty}
			}),
		onEvents("progress ahead of events", "announced progress", func(m *pb.WatchResponse) []proto.Message {
			if nth++; nth%5 != 0 {
				return same(m)
			}
			return []proto.Message{&pb.WatchResponse{Header: m.Header, WatchId: everyWatch}, m}
		}),
		change("created at another revision", "header.revision", func(m *pb.WatchResponse) {
			if m.Created {
				m.Header.Revision--
			}
		}),
		change("other watch id", "watch_id", func(m *pb.WatchResponse) {
			if m.Created {
				m.WatchId++
			}
		}),
		change("no cancel reason", "cancel_reason", func(m *pb.WatchResponse) { m.CancelReason = "" }),
		change("other compact revision", "compact_revision", func(m *pb.WatchResponse) {
			if m.CompactRevision > 0 {
				m.CompactRevision--
			}
		}),
		{name: "end of a watch not told", want: "waiting for", stream: func(m proto.Message) []proto.Message {
			if w, ok := m.(*pb.WatchResponse); ok && w.Canceled && !w.Created {
				return nil
			}
			return []proto.Message{m}
		}},
		{name: "progress not told", want: "waiting for progress", stream: func(m proto.Message) []proto.Message {
			if w, ok := m.(*pb.WatchResponse); ok && w.WatchId == everyWatch && !w.Created {
				return nil
			}
			return []proto.Message{m}
		}},
		onEvents("progress where silence is due", "must be silent", func(m *pb.WatchResponse) []proto.Message {
			return []proto.Message{m, &pb.WatchResponse{Header: m.Header, WatchId: everyWatch}}
		}),
		onEvents("key of an event", "kv.key", func(m *pb.WatchResponse) []proto.Message {
			for _, ev := range m.Events {
				if ev.Type == mvccpb.Event_PUT {
					ev.Kv.Key = append(ev.Kv.Key, 'x')
				}
			}
			return same(m)
		}),
	}
}

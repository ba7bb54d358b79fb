package config_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// fakeStore is a store in memory whose failures are told it.
type fakeStore struct {
	mu       sync.Mutex
	cluster  uint64
	revision int64
	kvs      map[string]*mvccpb.KeyValue
	history  []*clientv3.Event
	changed  chan struct{}  // closed at each change
	down     bool           // requests fail
	lost     map[int64]bool // leases that are gone
	// breakWatch decides what becomes of the next watch.
	breakWatch func() fault
	watches    int
}

type fault int

const (
	works     fault = iota
	ends            // the channel is closed at once
	compacted       // an error, and the channel is closed
	silent          // nothing is ever told
	brief           // ends after the first event
)

func newFakeStore() *fakeStore {
	return &fakeStore{
		cluster: 7, revision: 1, kvs: map[string]*mvccpb.KeyValue{}, changed: make(chan struct{}),
		lost: map[int64]bool{}, breakWatch: func() fault { return works },
	}
}

func (s *fakeStore) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: s.cluster, Revision: s.revision}
}

var errDown = errors.New("the store is down")

func (s *fakeStore) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down || ctx.Err() != nil {
		return nil, errDown
	}
	op := clientv3.OpGet(key, opts...)
	resp := &clientv3.GetResponse{Header: s.header()}
	for k, kv := range s.kvs {
		if k != key && (len(op.RangeBytes()) == 0 || !strings.HasPrefix(k, key)) {
			continue
		}
		kv = proto.CloneOf(kv)
		if op.IsKeysOnly() {
			kv.Value = nil
		}
		resp.Kvs = append(resp.Kvs, kv)
	}
	return resp, nil
}

// Invoke takes reports: the store is a connection to Config, too.
func (s *fakeStore) Invoke(ctx context.Context, _ string, args, _ any, _ ...grpc.CallOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	req := args.(*coordv1.ConfigReportRequest)
	if s.down || ctx.Err() != nil || s.lost[req.Lease] {
		return errDown
	}
	value, err := proto.Marshal(req.Status)
	if err == nil {
		s.put(layout.StatusKey(req.Bundle, req.Status.Client), string(value), req.Lease)
	}
	return err
}

func (s *fakeStore) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream,
	error) {
	return nil, errDown
}

func (s *fakeStore) put(key, value string, lease int64) {
	s.revision++
	s.kvs[key] = &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: s.revision, Lease: lease}
	s.tell(&clientv3.Event{Type: clientv3.EventTypePut, Kv: proto.CloneOf(s.kvs[key])})
}

func (s *fakeStore) delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	delete(s.kvs, key)
	s.tell(&clientv3.Event{Type: clientv3.EventTypeDelete,
		Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: s.revision}})
}

func (s *fakeStore) tell(e *clientv3.Event) {
	s.history = append(s.history, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *fakeStore) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches++
	out := make(chan clientv3.WatchResponse)
	from, how := clientv3.OpGet(key, opts...).Rev(), s.breakWatch()
	go func() {
		defer close(out)
		switch how {
		case ends:
			return
		case compacted:
			select {
			case out <- clientv3.WatchResponse{CompactRevision: 99, Canceled: true}:
			case <-ctx.Done():
			}
			return
		case silent:
			<-ctx.Done()
			return
		}
		for next := 0; ; {
			s.mu.Lock()
			events, changed, header := s.history[next:], s.changed, s.header()
			next = len(s.history)
			s.mu.Unlock()
			for _, e := range events {
				if string(e.Kv.Key) != key || e.Kv.ModRevision < from {
					continue
				}
				select {
				case out <- clientv3.WatchResponse{Header: header, Events: []*clientv3.Event{e}}:
				case <-ctx.Done():
					return
				}
				if how == brief {
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// publish publishes documents of name and content in turn, and returns the revision.
func (s *fakeStore) publish(bundle string, pairs ...string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := layout.CurrentKey(bundle)
	v := &coordv1.ConfigVersion{}
	if kv := s.kvs[key]; kv != nil {
		_ = proto.Unmarshal(kv.Value, v)
	}
	v = &coordv1.ConfigVersion{Number: v.Number + 1, Reason: "test"}
	for i := 0; i < len(pairs); i += 2 {
		v.Documents = append(v.Documents, &coordv1.ConfigDocument{Name: pairs[i], Content: []byte(pairs[i+1])})
	}
	value, err := proto.Marshal(v)
	if err != nil {
		panic(err)
	}
	s.put(key, string(value), 0)
	return s.revision
}

// status is the report of a client, nil if there is none, with its lease.
func (s *fakeStore) status(bundle, client string) (*coordv1.ConfigStatus, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kv := s.kvs[layout.StatusKey(bundle, client)]
	if kv == nil {
		return nil, 0
	}
	st := &coordv1.ConfigStatus{}
	if err := proto.Unmarshal(kv.Value, st); err != nil {
		panic(err)
	}
	return st, kv.Lease
}

func (s *fakeStore) set(fn func(*fakeStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

// image is the store as it is now, for going back to it.
func (s *fakeStore) image() func(*fakeStore) {
	s.mu.Lock()
	defer s.mu.Unlock()
	revision, kvs := s.revision, maps.Clone(s.kvs)
	return func(s *fakeStore) { s.revision, s.kvs, s.history = revision, maps.Clone(kvs), nil }
}

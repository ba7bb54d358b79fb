package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// fakeCluster is a server of the native stream in memory: sessions, outcomes, queues, a map of keys. Tests put faults
// between it and the client.
type fakeCluster struct {
	mu       sync.Mutex
	revision int64
	keys     map[string]*mvccpb.KeyValue
	queues   map[string][]*fakeEntry
	sessions map[int64]*fakeSession
	streams  map[*fakeStream]bool
	executed map[coordv1.Kind]int // requests that were executed, not those answered by a stored outcome
	beats    []time.Duration      // when heartbeats arrived, on the cluster's clock
	frames   int                  // received
	largest  int                  // requests in one frame
	start    time.Time

	// faults
	silent   map[string]bool // members that take everything and say nothing
	deaf     map[string]bool // members that execute and whose frames are lost
	refuse   func(*coordv1.Request) *coordv1.Refusal
	lose     func(*coordv1.Request) bool // before it is executed
	delay    time.Duration               // of what the server says
	openFail func(endpoint string) error
	dialled  []string
}

type fakeSession struct {
	id       int64
	created  uint64
	epoch    uint64
	ttl      time.Duration
	deadline time.Time
	stream   *fakeStream
	outcomes map[uint64]*coordv1.Outcome
	acked    uint64
	identity *coordv1.Identity
}

type fakeEntry struct {
	session  *fakeSession
	name     string
	key      string
	token    int64
	sequence uint64
	value    string
}

func newFake() *fakeCluster {
	return &fakeCluster{
		keys: map[string]*mvccpb.KeyValue{}, queues: map[string][]*fakeEntry{}, sessions: map[int64]*fakeSession{},
		revision: 1,
		streams:  map[*fakeStream]bool{}, executed: map[coordv1.Kind]int{}, silent: map[string]bool{},
		deaf: map[string]bool{}, start: time.Now(),
	}
}

// client returns a client of the cluster that knows no network. Its clock is the test's.
func (f *fakeCluster) client(t *testing.T, config Config, endpoints ...string) *Client {
	t.Helper()
	if len(endpoints) == 0 {
		endpoints = []string{"a"}
	}
	config.Endpoints = endpoints
	if config.Clock == nil {
		config.Clock = func() time.Duration { return time.Since(f.start) }
	}
	config.ensureDefaults()
	if err := config.validate(); err != nil {
		t.Fatal(err)
	}
	c := newClient(config, endpoints, f.dial)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fakeStream is one stream; it implements frames.
type fakeStream struct {
	f        *fakeCluster
	endpoint string
	ctx      context.Context
	fail     context.CancelCauseFunc
	out      chan said
}

// said is a frame and when it arrives.
type said struct {
	frame *coordv1.ServerFrame
	at    time.Time
}

func (f *fakeCluster) dial(ctx context.Context, endpoint string) (*link, error) {
	f.mu.Lock()
	f.dialled = append(f.dialled, endpoint)
	silent, openFail := f.silent[endpoint], f.openFail
	f.mu.Unlock()
	if openFail != nil {
		if err := openFail(endpoint); err != nil {
			return nil, err
		}
	}
	if silent {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	s := &fakeStream{f: f, endpoint: endpoint, out: make(chan said, 10000)}
	s.ctx, s.fail = context.WithCancelCause(context.Background())
	f.mu.Lock()
	f.streams[s] = true
	f.mu.Unlock()
	l := &link{endpoint: endpoint, stream: s, welcome: &coordv1.Welcome{ClusterId: 7, MemberId: 8},
		close: func() { s.cut(errors.New("closed")) }}
	l.ctx, l.fail = context.WithCancelCause(context.Background())
	context.AfterFunc(l.ctx, func() { s.cut(context.Cause(l.ctx)) })
	return l, nil
}

// cut breaks the stream.
func (s *fakeStream) cut(err error) {
	s.fail(err)
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	delete(s.f.streams, s)
}

// cutAll breaks all streams.
func (f *fakeCluster) cutAll() {
	f.mu.Lock()
	var all []*fakeStream
	for s := range f.streams {
		all = append(all, s)
	}
	f.mu.Unlock()
	for _, s := range all {
		s.cut(errors.New("cut"))
	}
}

func (s *fakeStream) Recv() (*coordv1.ServerFrame, error) {
	select {
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	case said := <-s.out:
		if !sleep(s.ctx, time.Until(said.at)) {
			return nil, context.Cause(s.ctx)
		}
		return said.frame, nil
	}
}

func (s *fakeStream) Send(frame *coordv1.ClientFrame) error {
	if s.ctx.Err() != nil {
		return io.EOF
	}
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent[s.endpoint] {
		return nil
	}
	f.frames++
	n := 0
	for _, b := range frame.Batches {
		n += len(b.Requests)
		f.batch(s, b)
	}
	f.largest = max(f.largest, n)
	if frame.Heartbeat > 0 {
		f.beats = append(f.beats, time.Since(f.start))
		for _, session := range f.sessions {
			if session.stream == s {
				session.deadline = time.Now().Add(session.ttl)
			}
		}
		s.say(&coordv1.ServerFrame{Heartbeat: frame.Heartbeat})
	}
	for _, c := range frame.Channels {
		f.channel(s, c)
	}
	return nil
}

func (s *fakeStream) say(frame *coordv1.ServerFrame) {
	if s != nil && !s.f.deaf[s.endpoint] && !s.f.silent[s.endpoint] {
		s.out <- said{proto.CloneOf(frame), time.Now().Add(s.f.delay)}
	}
}

func refusal(reason coordv1.Error_Reason, code codes.Code, message string) *coordv1.Outcome {
	return &coordv1.Outcome{Refusal: &coordv1.Refusal{Reason: reason, Code: uint32(code), Message: message}}
}

func outcome(m proto.Message) *coordv1.Outcome {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	if b == nil {
		b = []byte{}
	}
	return &coordv1.Outcome{Response: b}
}

// decode is for requests that the client under test encoded.
func decode[M proto.Message](body []byte, m M) M {
	if err := proto.Unmarshal(body, m); err != nil {
		panic(err)
	}
	return m
}

func (f *fakeCluster) batch(s *fakeStream, b *coordv1.Batch) {
	answer := func(r *coordv1.Request, o *coordv1.Outcome) {
		s.say(&coordv1.ServerFrame{Responses: []*coordv1.Response{{Session: b.Session, Sequence: r.Sequence,
			Outcome: o}}})
	}
	session := f.sessions[b.Session]
	for _, r := range b.Requests {
		if f.lose != nil && f.lose(r) {
			continue
		}
		if f.refuse != nil {
			if refusal := f.refuse(r); refusal != nil {
				answer(r, &coordv1.Outcome{Refusal: refusal})
				continue
			}
		}
		switch {
		case b.Session == 0:
			answer(r, f.plain(s, r))
		case session == nil:
			answer(r, refusal(coordv1.Error_REASON_SESSION_NOT_FOUND, codes.NotFound, "session not found"))
		case session.stream != s:
			answer(r, refusal(coordv1.Error_REASON_SESSION_ELSEWHERE, codes.FailedPrecondition, "elsewhere"))
		case r.Sequence <= session.acked:
			answer(r, refusal(coordv1.Error_REASON_SEQUENCE_PAST, codes.FailedPrecondition, "past"))
		default:
			o := session.outcomes[r.Sequence]
			if o == nil {
				o = f.execute(session, r)
				session.outcomes[r.Sequence] = o
			}
			answer(r, o)
		}
	}
	if session != nil && session.stream == s {
		session.acked = max(session.acked, b.Acknowledged)
		for sequence := range session.outcomes {
			if sequence <= session.acked {
				delete(session.outcomes, sequence)
			}
		}
	}
}

// plain executes a request without a session.
func (f *fakeCluster) plain(s *fakeStream, r *coordv1.Request) *coordv1.Outcome {
	f.executed[r.Kind]++
	switch r.Kind {
	case coordv1.Kind_KIND_SESSION_OPEN:
		req := decode(r.Body, &coordv1.SessionOpen{})
		f.revision++
		session := &fakeSession{
			id: 1000 + f.revision, created: uint64(f.revision), epoch: 1,
			ttl:    time.Duration(req.TtlMs) * time.Millisecond,
			stream: s, outcomes: map[uint64]*coordv1.Outcome{}, identity: req.Identity,
		}
		session.deadline = time.Now().Add(session.ttl)
		f.sessions[session.id] = session
		return outcome(&coordv1.SessionOpened{Id: session.id, Created: session.created, TtlMs: req.TtlMs, Epoch: 1})
	case coordv1.Kind_KIND_SESSION_ATTACH:
		return f.attach(s, decode(r.Body, &coordv1.SessionAttach{}))
	case coordv1.Kind_KIND_SESSION_END:
		session := f.sessions[decode(r.Body, &coordv1.SessionEnd{}).Session]
		if session == nil {
			return refusal(coordv1.Error_REASON_SESSION_NOT_FOUND, codes.NotFound, "session not found")
		}
		f.end(session)
		return outcome(&coordv1.SessionEnded{Revision: f.revision})
	case coordv1.Kind_KIND_RANGE:
		req := decode(r.Body, &pb.RangeRequest{})
		resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: f.revision}}
		if kv := f.keys[string(req.Key)]; kv != nil {
			resp.Kvs, resp.Count = []*mvccpb.KeyValue{kv}, 1
		}
		return outcome(resp)
	case coordv1.Kind_KIND_LEADER:
		req := decode(r.Body, &coordv1.LeaderRequest{})
		if q := f.queues[req.Name]; len(q) > 0 {
			return outcome(&coordv1.LeaderResponse{Leader: q[0].entry()})
		}
		return refusal(coordv1.Error_REASON_NO_LEADER, codes.NotFound, "no leader")
	}
	return outcome(&coordv1.CheckTokenResponse{})
}

func (f *fakeCluster) attach(s *fakeStream, req *coordv1.SessionAttach) *coordv1.Outcome {
	session := f.sessions[req.Session]
	switch {
	case session == nil || session.created != req.Created:
		return refusal(coordv1.Error_REASON_SESSION_NOT_FOUND, codes.NotFound, "session not found")
	case req.Epoch <= session.epoch:
		return refusal(coordv1.Error_REASON_SESSION_ELSEWHERE, codes.FailedPrecondition, "epoch past")
	}
	session.stream, session.epoch, session.deadline = s, req.Epoch, time.Now().Add(session.ttl)
	resp := &coordv1.SessionAttached{TtlMs: session.ttl.Milliseconds()}
	for _, g := range req.Entries {
		e := &coordv1.AcquiredEntry{Name: g.Name, Key: g.Key}
		for i, have := range f.queues[g.Name] {
			if have.key == g.Key {
				e.Token, e.State = have.token, coordv1.AcquiredEntry_WAITS
				if i == 0 {
					e.State = coordv1.AcquiredEntry_HOLDS
				}
			}
		}
		resp.Entries = append(resp.Entries, e)
	}
	return outcome(resp)
}

// execute executes a request of a session.
func (f *fakeCluster) execute(s *fakeSession, r *coordv1.Request) *coordv1.Outcome {
	f.executed[r.Kind]++
	for _, g := range r.Guards {
		if q := f.queues[g.Name]; len(q) == 0 || q[0].key != g.Key || q[0].token != g.Token {
			return refusal(coordv1.Error_REASON_FENCED, codes.FailedPrecondition, "fenced")
		}
	}
	header := func() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: f.revision} }
	switch r.Kind {
	case coordv1.Kind_KIND_PUT:
		req := decode(r.Body, &pb.PutRequest{})
		if len(req.Key) == 0 {
			return refusal(coordv1.Error_REASON_ETCD, codes.InvalidArgument, "etcdserver: key is not provided")
		}
		f.revision++
		f.keys[string(req.Key)] = &mvccpb.KeyValue{Key: req.Key, Value: req.Value, ModRevision: f.revision,
			CreateRevision: f.revision}
		return outcome(&pb.PutResponse{Header: header()})
	case coordv1.Kind_KIND_ACQUIRE:
		req := decode(r.Body, &coordv1.Acquire{})
		return f.acquire(s, r.Sequence, req.Names, req.OwnerId, req.Owner, req.Try)
	case coordv1.Kind_KIND_CAMPAIGN:
		req := decode(r.Body, &coordv1.Campaign{})
		return f.acquire(s, r.Sequence, []string{req.Name}, req.OwnerId, string(req.Value), req.Try)
	case coordv1.Kind_KIND_RELEASE:
		removed := int64(0)
		for _, g := range decode(r.Body, &coordv1.Release{}).Entries {
			if f.remove(func(e *fakeEntry) bool { return e.key == g.Key && e.token == g.Token }, nil) {
				removed++
			}
		}
		return outcome(&coordv1.Released{Removed: removed})
	case coordv1.Kind_KIND_WITHDRAW:
		req := decode(r.Body, &coordv1.Withdraw{})
		if req.Sequence <= s.acked {
			return refusal(coordv1.Error_REASON_SEQUENCE_PAST, codes.FailedPrecondition, "past")
		}
		removed := f.remove(func(e *fakeEntry) bool { return e.session == s && e.sequence == req.Sequence }, nil)
		if s.outcomes[req.Sequence] == nil {
			s.outcomes[req.Sequence] = refusal(coordv1.Error_REASON_WITHDRAWN, codes.Aborted, "withdrawn")
		}
		return outcome(&coordv1.Withdrawn{Removed: removed})
	case coordv1.Kind_KIND_TRANSFER:
		req := decode(r.Body, &coordv1.Transfer{})
		f.remove(func(e *fakeEntry) bool { return e.key == req.Leader.GetKey() }, nil)
		return outcome(&coordv1.Transferred{Term: f.revision})
	case coordv1.Kind_KIND_PROCLAIM:
		return outcome(&coordv1.Proclaimed{})
	case coordv1.Kind_KIND_ASK_RELEASE:
		req := decode(r.Body, &coordv1.AskRelease{})
		q := f.queues[req.Name]
		if len(q) == 0 {
			return outcome(&coordv1.Asked{})
		}
		q[0].push(&coordv1.Push{Event: &coordv1.Push_Asked{Asked: &coordv1.ReleaseAsked{Name: req.Name, Key: q[0].key,
			Token: q[0].token, From: req.From, Reason: req.Reason}}})
		return outcome(&coordv1.Asked{Holder: q[0].entry()})
	}
	return outcome(&pb.TxnResponse{Header: header()})
}

func (e *fakeEntry) entry() *coordv1.Entry {
	return &coordv1.Entry{Key: e.key, Token: e.token, Owner: e.value, Value: []byte(e.value)}
}

func (e *fakeEntry) push(p *coordv1.Push) {
	p.Session = e.session.id
	e.session.stream.say(&coordv1.ServerFrame{Pushes: []*coordv1.Push{p}})
}

func (f *fakeCluster) acquire(s *fakeSession, sequence uint64, names []string, owner, value string,
	try bool) *coordv1.Outcome {
	resp := &coordv1.Acquired{}
	for _, name := range names {
		if name == "" || name[len(name)-1] == '/' {
			return refusal(coordv1.Error_REASON_INVALID, codes.InvalidArgument, "bad name")
		}
		if q := f.queues[name]; try && len(q) > 0 {
			resp.Entries = append(resp.Entries, &coordv1.AcquiredEntry{Name: name, Holder: q[0].entry()})
		}
	}
	if len(resp.Entries) > 0 {
		for len(resp.Entries) < len(names) {
			resp.Entries = append(resp.Entries, &coordv1.AcquiredEntry{})
		}
		return outcome(resp)
	}
	f.revision++
	for _, name := range names {
		key := fmt.Sprintf("%s/%x", name, s.id)
		if owner != "" {
			key += "." + owner
		}
		e := &fakeEntry{session: s, name: name, key: key, token: f.revision, sequence: sequence, value: value}
		for _, have := range f.queues[name] {
			if have.key == key {
				panic("two entries of one key: " + key)
			}
		}
		f.queues[name] = append(f.queues[name], e)
		r := &coordv1.AcquiredEntry{Name: name, Key: key, Token: e.token, State: coordv1.AcquiredEntry_HOLDS}
		if n := len(f.queues[name]); n > 1 {
			r.State, r.Position, r.Holder = coordv1.AcquiredEntry_WAITS, int64(n-1), f.queues[name][0].entry()
		}
		resp.Entries = append(resp.Entries, r)
	}
	return outcome(resp)
}

// remove removes entries; told is called for each. The next ones are granted.
func (f *fakeCluster) remove(which func(*fakeEntry) bool, told func(*fakeEntry)) (removed bool) {
	for name, q := range f.queues {
		if len(q) == 0 {
			continue
		}
		first := q[0]
		q = slices.DeleteFunc(slices.Clone(q), func(e *fakeEntry) bool {
			if !which(e) {
				return false
			}
			removed = true
			if told != nil {
				told(e)
			}
			return true
		})
		if f.queues[name] = q; len(q) > 0 && q[0] != first {
			q[0].push(&coordv1.Push{Event: &coordv1.Push_Granted{Granted: &coordv1.Granted{Key: q[0].key,
				Token: q[0].token}}})
		}
	}
	f.revision++
	return removed
}

// end ends a session on the server.
func (f *fakeCluster) end(s *fakeSession) {
	delete(f.sessions, s.id)
	f.remove(func(e *fakeEntry) bool { return e.session == s }, nil)
}

// expire ends a session and tells it.
func (f *fakeCluster) expire(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sessions[id]
	f.end(s)
	s.stream.say(&coordv1.ServerFrame{Pushes: []*coordv1.Push{{Session: id, Event: &coordv1.Push_SessionLost{
		SessionLost: &coordv1.SessionLost{Cause: coordv1.SessionLost_ENDED},
	}}}})
}

// delete deletes a key by hand.
func (f *fakeCluster) delete(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remove(func(e *fakeEntry) bool { return e.key == key }, func(e *fakeEntry) {
		e.push(&coordv1.Push{Event: &coordv1.Push_Lost{Lost: &coordv1.EntryLost{Name: e.name, Key: e.key,
			Token: e.token, Cause: coordv1.EntryLost_REMOVED}}})
	})
}

// queue are the keys of the entries of a name.
func (f *fakeCluster) queue(name string) (keys []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.queues[name] {
		keys = append(keys, e.key)
	}
	return keys
}

func (f *fakeCluster) count(kind coordv1.Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.executed[kind]
}

// set changes a fault.
func (f *fakeCluster) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// channel echoes messages, and closes when the client does.
func (f *fakeCluster) channel(s *fakeStream, c *coordv1.ChannelFrame) {
	answer := &coordv1.ChannelFrame{Id: c.Id, Messages: c.Messages, Close: c.Close}
	if len(c.Messages) > 0 {
		for _, m := range c.Messages {
			answer.Credit += messageCost(m)
		}
	}
	s.say(&coordv1.ServerFrame{Channels: []*coordv1.ChannelFrame{answer}})
}

package stream_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// messages waits for n messages of a channel, gives credit for them, and removes them.
func (c *raw) messages(id uint64, n int) [][]byte {
	c.t.Helper()
	var found [][]byte
	c.until("messages", func() bool {
		rest := c.channels[:0]
		credit := 0
		for _, f := range c.channels {
			if f.Id != id || len(f.Messages) == 0 {
				rest = append(rest, f)
				continue
			}
			for _, m := range f.Messages {
				found = append(found, m)
				credit += len(m) + 64
			}
		}
		c.channels = rest
		if credit > 0 {
			c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{Id: id, Credit: int64(credit)}}})
		}
		return len(found) >= n
	})
	return found
}

// over waits for the end of a channel.
func (c *raw) over(id uint64) *coordv1.Refusal {
	c.t.Helper()
	var why *coordv1.Refusal
	c.until("close", func() bool {
		for _, f := range c.channels {
			if f.Id == id && f.Close {
				why = f.Refusal
				return true
			}
		}
		return false
	})
	return why
}

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func watchFrame(id uint64, key string, credit int64) *coordv1.ClientFrame {
	create := &pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(key)}},
	}
	return &coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{
		Id: id, Open: coordv1.ChannelKind_CHANNEL_WATCH, Messages: [][]byte{marshal(create)}, Credit: credit,
	}}}
}

// events collects n events of a watch channel.
func (c *raw) events(id uint64, n int) []string {
	c.t.Helper()
	var values []string
	for len(values) < n {
		for _, m := range c.messages(id, 1) {
			resp := &pb.WatchResponse{}
			if err := proto.Unmarshal(m, resp); err != nil {
				c.t.Fatal(err)
			}
			for _, e := range resp.Events {
				values = append(values, string(e.Kv.Value))
			}
		}
	}
	return values
}

// A watch whose consumer takes nothing holds up nobody, and misses nothing once it reads.
func TestAChannelThatIsNotReadHoldsUpNobody(t *testing.T) {
	c := connect(t, start(t, coordtest.Options{}).Endpoints()[0])
	s := c.open(time.Minute)
	c.send(watchFrame(5, "k", 1))       // enough for the answer that it was created
	c.send(watchFrame(9, "k", 1<<20))   // ids in any order
	c.send(watchFrame(7, "k", 256<<10)) // half a window
	c.messages(9, 1)
	c.messages(7, 1)
	value := func(i int) string { return fmt.Sprintf("%d-%01000d", i, i) }
	const n = 200
	for i := range n {
		s.put("k", value(i))
	}
	for _, id := range []uint64{9, 7} {
		for i, v := range c.events(id, n) {
			if v != value(i) {
				t.Fatalf("channel %d: event %d is %.20s", id, i, v)
			}
		}
	}
	if got := len(c.messages(5, 1)); got != 1 { // and by this gives it more credit
		t.Fatalf("the channel without credit got %d messages", got)
	}
	c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{Id: 5, Credit: 1 << 20}}})
	for i, v := range c.events(5, n) {
		if v != value(i) {
			t.Fatalf("event %d of the one that read late is %.20s", i, v)
		}
	}
	for _, id := range []uint64{5, 7, 9} {
		c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{Id: id, Close: true}}})
		if why := c.over(id); why != nil {
			t.Errorf("channel %d ended with %v", id, why)
		}
	}
	// What was on its way when the channel ended is no breach of the protocol.
	c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{Id: 5, Credit: 1}}})
	s.put("k", "last")
}

func TestLeasesAreKeptAliveInAChannel(t *testing.T) {
	c := connect(t, start(t, coordtest.Options{}).Endpoints()[0])
	s := c.open(time.Minute)
	lease := &pb.LeaseGrantResponse{}
	if r := s.do(coordv1.Kind_KIND_LEASE_GRANT, &pb.LeaseGrantRequest{TTL: 60}, lease); r != nil {
		t.Fatal(r)
	}
	frame := &coordv1.ChannelFrame{Id: 1, Open: coordv1.ChannelKind_CHANNEL_LEASE_KEEP_ALIVE, Credit: 1 << 20}
	const n = 10_000 // far more than the window: credit comes back
	one := marshal(&pb.LeaseKeepAliveRequest{ID: lease.ID})
	window := 64 << 10
	answered := 0
	for sent := 0; answered < n; {
		for ; sent < n && window > 0; sent++ {
			frame.Messages = append(frame.Messages, one)
			window -= len(one) + 64
		}
		c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{frame}})
		frame = &coordv1.ChannelFrame{Id: 1}
		for _, m := range c.messages(1, 1) {
			resp := &pb.LeaseKeepAliveResponse{}
			if err := proto.Unmarshal(m, resp); err != nil || resp.TTL != 60 || resp.ID != lease.ID {
				t.Fatalf("%v, %v", resp, err)
			}
			answered++
		}
		for _, f := range c.channels {
			window += int(f.Credit)
		}
		c.channels = nil
	}
	c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{Id: 1, Close: true}}})
	if why := c.over(1); why != nil {
		t.Errorf("ended with %v", why)
	}
}

func TestRangesAndObserversInChannels(t *testing.T) {
	c := connect(t, start(t, coordtest.Options{}).Endpoints()[0])
	s := c.open(time.Minute)
	const n = 1000
	for i := range n {
		s.put(fmt.Sprintf("k%04d", i), "")
	}
	open := func(id uint64, kind coordv1.ChannelKind, request proto.Message) {
		c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{
			Id: id, Open: kind, Messages: [][]byte{marshal(request)}, Credit: 4 << 20, Close: true,
		}}})
	}
	open(1, coordv1.ChannelKind_CHANNEL_RANGE, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if why := c.over(1); why != nil {
		t.Fatalf("range ended with %v", why)
	}
	got := &pb.RangeResponse{}
	for _, m := range c.messages(1, 1) {
		part := &pb.RangeStreamResponse{}
		if err := proto.Unmarshal(m, part); err != nil {
			t.Fatal(err)
		}
		proto.Merge(got, part.RangeResponse)
	}
	if len(got.Kvs) != n || got.Count != n {
		t.Errorf("%d keys, count %d", len(got.Kvs), got.Count)
	}
	c.channels = nil
	open(2, coordv1.ChannelKind_CHANNEL_RANGE, &pb.RangeRequest{})
	wantRefusal(t, "range without key", c.over(2), coordv1.Error_REASON_ETCD, "etcdserver: key is not provided")
	open(3, coordv1.ChannelKind_CHANNEL_OBSERVE, &coordv1.ObserveRequest{Name: "e"})
	state := &coordv1.ObserveEvent{}
	if err := proto.Unmarshal(c.messages(3, 1)[0], state); err != nil || state.Leader != nil || state.Revision == 0 {
		t.Errorf("the state at the start: %v, %v", state, err)
	}
	c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{Id: 3, Close: true}}})
	if why := c.over(3); why != nil {
		t.Errorf("an observer that closed again: ended with %v", why)
	}
}

func TestTooManyChannels(t *testing.T) {
	c := connect(t, start(t, coordtest.Options{Configure: limit(func(l *limits) { l.Channels = 2 })}).Endpoints()[0])
	for id := range uint64(3) {
		c.send(watchFrame(id+1, "k", 1<<20))
	}
	wantRefusal(t, "the third", c.over(3), coordv1.Error_REASON_TOO_MANY_REQUESTS, "2 channels")
	c.messages(1, 1)
	c.messages(2, 1)
	c.send(&coordv1.ClientFrame{Channels: []*coordv1.ChannelFrame{{Id: 1, Close: true}}})
	c.over(1)
	c.send(watchFrame(4, "k", 1<<20))
	c.messages(4, 1)
}

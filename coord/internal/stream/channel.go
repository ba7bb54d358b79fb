package stream

import (
	"context"
	"fmt"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/limit"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/wire"
)

const (
	// channelWindow is how many bytes of messages a client may have sent that were not taken: with so much it begins,
	// and it gets more when half of it was taken.
	channelWindow = 64 << 10
	// messageOverhead is what each message counts beside its bytes, in credit and in memory: an empty one is not for
	// nothing. Client and server count alike, see stream.proto.
	messageOverhead = 64
	// channelCost is what an open channel counts in memory: its goroutines, mostly.
	channelCost = 12 << 10
)

// messageCost is what a message counts.
func messageCost(m []byte) int { return len(m) + messageOverhead }

// channels are the channels of one stream.
type channels struct {
	st     *stream
	holder *limit.Holder // of open channels, and of the messages in them

	mu   sync.Mutex
	open map[uint64]*channel
	// over holds the ids of the last channels that are over, as many as may be open: the client may not know of their
	// end when it sends. order has them, oldest at next.
	over  map[uint64]struct{}
	order []uint64
	next  int
}

// take takes a frame of the client. An error ends the stream.
func (cs *channels) take(data []byte) error {
	if err := checkMessages(data); err != nil {
		return err
	}
	f := &coordv1.ChannelFrame{}
	if err := proto.Unmarshal(data, f); err != nil {
		return broken("channel frame: %v", err)
	}
	if f.Credit < 0 {
		return broken("channel %d: a credit of %d", f.Id, f.Credit)
	}
	cs.mu.Lock()
	c := cs.open[f.Id]
	_, over := cs.over[f.Id]
	cs.mu.Unlock()
	opens := f.Open != coordv1.ChannelKind_CHANNEL_UNSPECIFIED
	switch {
	case opens && (c != nil || over):
		return broken("channel %d is opened twice", f.Id)
	case opens:
		return cs.start(f)
	case c != nil:
		return c.take(f)
	case over:
		return nil
	}
	return broken("channel %d was not opened", f.Id)
}

// checkMessages refuses a frame with more messages than any credit allows, before memory is given to each of them.
func checkMessages(data []byte) error {
	messages := 0
	for p := wire.Read(data); p.Next(); {
		if p.IsBytes(fieldMessages) {
			messages++
		}
	}
	if messages*messageOverhead > 3*channelWindow {
		return broken("%d messages in one frame of a channel: messages without credit", messages)
	}
	return nil
}

// start opens a channel.
func (cs *channels) start(f *coordv1.ChannelFrame) error {
	serve := cs.st.channelHandler(f.Open)
	if serve == nil {
		return broken("channel %d: kind %d is unknown", f.Id, f.Open)
	}
	c := newChannel(cs.st, f)
	if err := cs.add(c); err != nil {
		c.cancel()
		c.close(tooMuch(err))
		return nil
	}
	if err := c.take(f); err != nil {
		return err
	}
	cs.st.spawn(func() { c.run(serve) })
	return nil
}

// add refuses a channel where there are too many.
func (cs *channels) add(c *channel) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	err := error(nil)
	if most := cs.st.server.opts.Limits.Channels; len(cs.open) >= most {
		err = fmt.Errorf("the stream has %d channels already", most)
	} else {
		err = cs.holder.Take(channelCost)
	}
	if err != nil {
		cs.forget(c.id)
		return err
	}
	if cs.open == nil {
		cs.open = map[uint64]*channel{}
	}
	cs.open[c.id] = c
	return nil
}

func (cs *channels) remove(c *channel) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c.id)
	cs.forget(c.id)
	cs.holder.Give(channelCost + int64(c.drop()))
}

// forget notes that a channel is over.
func (cs *channels) forget(id uint64) {
	if cs.over == nil {
		cs.over = map[uint64]struct{}{}
	}
	cs.over[id] = struct{}{}
	if len(cs.order) < cs.st.server.opts.Limits.Channels {
		cs.order = append(cs.order, id)
		return
	}
	delete(cs.over, cs.order[cs.next])
	cs.order[cs.next] = id
	cs.next = (cs.next + 1) % len(cs.order)
}

// channelHandler is who serves channels of a kind, nil if nobody does.
func (st *stream) channelHandler(kind coordv1.ChannelKind) func(*channel) error {
	o := &st.server.opts
	switch kind {
	case coordv1.ChannelKind_CHANNEL_WATCH:
		return func(c *channel) error {
			return o.Watch.Watch(&grpc.GenericServerStream[pb.WatchRequest, pb.WatchResponse]{ServerStream: c})
		}
	case coordv1.ChannelKind_CHANNEL_LEASE_KEEP_ALIVE:
		return func(c *channel) error {
			return o.Etcd.KeepAlive(&grpc.GenericServerStream[pb.LeaseKeepAliveRequest,
				pb.LeaseKeepAliveResponse]{ServerStream: c})
		}
	case coordv1.ChannelKind_CHANNEL_OBSERVE:
		return func(c *channel) error {
			request := &coordv1.ObserveRequest{}
			if err := c.RecvMsg(request); err != nil {
				return err
			}
			return o.Election.Observe(request, &grpc.GenericServerStream[coordv1.ObserveRequest,
				coordv1.ObserveEvent]{ServerStream: c})
		}
	case coordv1.ChannelKind_CHANNEL_RANGE:
		return func(c *channel) error {
			request := &pb.RangeRequest{}
			if err := c.RecvMsg(request); err != nil {
				return err
			}
			return o.Etcd.RangeStream(request, &grpc.GenericServerStream[pb.RangeRequest,
				pb.RangeStreamResponse]{ServerStream: c})
		}
	}
	return nil
}

// channel is a stream inside the stream: a grpc.ServerStream for its handler. What a slow client does not take stays
// with the handler: nothing more than a message goes out without credit.
type channel struct {
	st     *stream
	id     uint64
	kind   coordv1.ChannelKind
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // has a token when there may be a message, or the end of them
	paid   chan struct{} // has a token when there may be credit

	// Messages and bytes are counted by messageCost.
	mu     sync.Mutex
	in     [][]byte         // messages that were not taken
	bytes  int              // of them; the stream's holder holds as much
	taken  int              // bytes that were taken since the client got credit for them
	eof    bool             // the client sends nothing more
	over   bool             // the handler has returned: nothing more is kept
	why    *coordv1.Refusal // the server has ended the channel for this
	credit int64            // bytes that the client is ready for
}

func newChannel(st *stream, f *coordv1.ChannelFrame) *channel {
	c := &channel{st: st, id: f.Id, kind: f.Open, wake: make(chan struct{}, 1), paid: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancel(st.ctx)
	return c
}

// run runs the handler and tells the client of the end.
func (c *channel) run(serve func(*channel) error) {
	err := serve(c)
	cancelled := c.ctx.Err() != nil
	c.cancel()
	c.st.channels.remove(c)
	switch {
	case c.why != nil: // nobody writes it any more
		c.close(c.why)
	case err == nil || cancelled && c.st.ctx.Err() == nil:
		c.close(nil)
	default:
		c.close(refusal(err))
	}
}

func (c *channel) close(why *coordv1.Refusal) {
	c.st.out.channel(&coordv1.ChannelFrame{Id: c.id, Close: true, Refusal: why})
}

// take takes a frame of the client. Who closes with a refusal, or for the second time, or a watch, wants no more
// answers.
func (c *channel) take(f *coordv1.ChannelFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range f.Messages {
		switch {
		case c.eof:
			return broken("channel %d: a message after the last one", c.id)
		case c.bytes > 2*channelWindow:
			return broken("channel %d: messages without credit", c.id)
		case !c.keep(m):
			return nil
		}
	}
	if f.Credit > 0 {
		c.credit = min(c.credit+f.Credit, 1<<40)
		signal(c.paid)
	}
	if f.Close {
		if c.eof || f.Refusal != nil || c.kind == coordv1.ChannelKind_CHANNEL_WATCH {
			c.cancel()
		}
		c.eof = true
	}
	signal(c.wake)
	return nil
}

// keep queues a message. It reports false where the channel is over, or is now, as there is no room for more. The
// caller holds the mutex.
func (c *channel) keep(m []byte) bool {
	if c.over || c.why != nil {
		return false
	}
	if err := c.st.channels.holder.Take(int64(messageCost(m))); err != nil {
		c.why = tooMuch(err)
		c.cancel()
		return false
	}
	c.in = append(c.in, m)
	c.bytes += messageCost(m)
	return true
}

// drop forgets what was not taken, and returns how much it was.
func (c *channel) drop() (bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bytes, c.bytes, c.in, c.over = c.bytes, 0, nil, true
	return bytes
}

// RecvMsg implements grpc.ServerStream.
func (c *channel) RecvMsg(m any) error {
	for {
		data, err := c.next()
		if data != nil {
			if err := proto.Unmarshal(data, m.(proto.Message)); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// next takes a message; nil if there is none, with io.EOF if there will be none.
func (c *channel) next() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.in) == 0 {
		if c.eof {
			return nil, io.EOF
		}
		return nil, nil
	}
	m := c.in[0]
	c.in[0] = nil
	c.in = c.in[1:]
	c.bytes -= messageCost(m)
	c.st.channels.holder.Give(int64(messageCost(m)))
	if c.taken += messageCost(m); c.taken >= channelWindow/2 && !c.eof {
		c.st.out.channel(&coordv1.ChannelFrame{Id: c.id, Credit: int64(c.taken)})
		c.taken = 0
	}
	if m == nil {
		m = []byte{}
	}
	return m, nil
}

// SendMsg implements grpc.ServerStream. It waits until the client is ready for more.
func (c *channel) SendMsg(m any) error {
	data, err := proto.Marshal(m.(proto.Message))
	if err != nil {
		return err
	}
	for !c.pay(messageCost(data)) {
		select {
		case <-c.paid:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	if !c.st.out.wait() {
		return context.Canceled
	}
	c.st.out.channel(&coordv1.ChannelFrame{Id: c.id, Messages: [][]byte{data}})
	return nil
}

// pay takes the credit for a message, which may be larger, unless there is none.
func (c *channel) pay(bytes int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.credit <= 0 {
		return false
	}
	c.credit -= int64(bytes)
	return true
}

// Context implements grpc.ServerStream.
func (c *channel) Context() context.Context { return c.ctx }

// SetHeader implements grpc.ServerStream.
func (c *channel) SetHeader(metadata.MD) error { return nil }

// SendHeader implements grpc.ServerStream.
func (c *channel) SendHeader(metadata.MD) error { return nil }

// SetTrailer implements grpc.ServerStream.
func (c *channel) SetTrailer(metadata.MD) {}

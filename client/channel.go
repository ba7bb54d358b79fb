package client

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

const (
	// channelWindow is how many bytes of messages the server may send before they are read.
	channelWindow = 1 << 20
	// firstCredit is what we may send before the server has said anything.
	firstCredit = 64 << 10
	// messageOverhead is what each message counts beside its bytes, see stream.proto.
	messageOverhead = 64
)

// messageCost is what a message counts in credit.
func messageCost(m []byte) int64 { return int64(len(m)) + messageOverhead }

// errLinkLost ends channels and requests that cannot go on over another link; etcd's clients try again.
var errLinkLost = status.Error(codes.Unavailable, "the connection was lost")

// channel is a stream inside the stream. One that was not opened yet waits for a link; when its link ends, it does.
type channel struct {
	t    *transport
	id   uint64
	kind coordv1.ChannelKind
	wake chan struct{} // capacity 1: there is something to receive, or it is over

	// The rest belongs to the transport's mutex.
	opened bool // the server was told of it
	listed bool // in the transport's list of channels with something to send
	out    [][]byte
	credit int64 // bytes of messages that we may send
	finish bool  // we send nothing more, once out is empty
	// finished: the server was told so.
	finished bool
	in       [][]byte
	read     int64 // bytes received that the server was not given credit for again
	grant    int64 // credit to give
	err      error // it is over, once in is empty
}

// openChannel makes a channel that ends with ctx.
func (t *transport) openChannel(ctx context.Context, kind coordv1.ChannelKind) (*channel, error) {
	t.lock()
	defer t.unlock()
	if t.mu.closed != nil {
		return nil, t.mu.closed
	}
	t.mu.channel++
	ch := &channel{t: t, id: t.mu.channel, kind: kind, wake: make(chan struct{}, 1), credit: firstCredit,
		grant: channelWindow}
	t.mu.channels[ch.id] = ch
	context.AfterFunc(ctx, func() { ch.close(status.FromContextError(ctx.Err()).Err()) })
	signal(t.need)
	return ch, nil
}

// send queues a message. It does not wait: messages of channels are few and small on this side.
func (ch *channel) send(message []byte) error {
	ch.t.lock()
	defer ch.t.unlock()
	if ch.err != nil || ch.finish {
		return io.EOF // recv says why
	}
	ch.out = append(ch.out, message)
	ch.list()
	return nil
}

// closeSend says that nothing more is sent.
func (ch *channel) closeSend() {
	ch.t.lock()
	defer ch.t.unlock()
	if ch.err == nil {
		ch.finish = true
		ch.list()
	}
}

// recv waits for the next message; io.EOF if the server has ended the channel without an error.
func (ch *channel) recv() ([]byte, error) {
	for {
		ch.t.lock()
		if len(ch.in) > 0 {
			message := ch.in[0]
			ch.in = ch.in[1:]
			ch.wasRead(messageCost(message))
			ch.t.unlock()
			return message, nil
		}
		err := ch.err
		ch.t.unlock()
		if err != nil {
			signal(ch.wake) // for who receives again
			return nil, err
		}
		<-ch.wake
	}
}

// wasRead gives credit again, half a window at a time.
func (ch *channel) wasRead(n int64) {
	if ch.read += n; ch.read >= channelWindow/2 {
		ch.grant += ch.read
		ch.read = 0
		ch.list()
	}
}

// close ends the channel from our side.
func (ch *channel) close(err error) {
	ch.t.lock()
	defer ch.t.unlock()
	if ch.err != nil {
		return
	}
	ch.in, ch.out, ch.finish = nil, nil, true
	if ch.opened && ch.t.mu.link != nil {
		ch.list()
	} else {
		delete(ch.t.mu.channels, ch.id)
	}
	ch.fail(err)
}

// fail says that nothing more comes. What came is still received.
func (ch *channel) fail(err error) {
	if ch.err == nil {
		ch.err = err
		signal(ch.wake)
	}
}

// list makes the writer look at the channel.
func (ch *channel) list() {
	if ch.t.mu.link != nil && !ch.listed {
		ch.listed = true
		ch.t.mu.sendable = append(ch.t.mu.sendable, ch)
		signal(ch.t.kick)
	}
}

// take takes over what the server sent.
func (ch *channel) take(f *coordv1.ChannelFrame) {
	if ch.err == nil && len(f.Messages) > 0 {
		ch.in = append(ch.in, f.Messages...)
		signal(ch.wake)
	}
	if ch.credit += f.Credit; f.Credit > 0 && len(ch.out) > 0 {
		ch.list()
	}
	if !f.Close {
		return
	}
	delete(ch.t.mu.channels, ch.id)
	switch {
	case f.Refusal != nil:
		ch.fail(status.Error(codes.Code(f.Refusal.Code), f.Refusal.Message))
	default:
		ch.fail(io.EOF)
	}
}

// takeChannels puts what channels have to say into the frame and returns its size.
func (t *transport) takeChannels(f *coordv1.ClientFrame) (size int) {
	for len(t.mu.sendable) > 0 && size < maxFrame {
		ch := t.mu.sendable[0]
		t.mu.sendable = t.mu.sendable[1:]
		ch.listed = false
		if c := ch.nextFrame(&size); c != nil {
			f.Channels = append(f.Channels, c)
		}
	}
	return size
}

// nextFrame is the channel's part of the next frame, nil if there is nothing to send.
func (ch *channel) nextFrame(size *int) *coordv1.ChannelFrame {
	f := &coordv1.ChannelFrame{Id: ch.id, Credit: ch.grant}
	ch.grant = 0
	if !ch.opened {
		ch.opened = true
		f.Open = ch.kind
	}
	for len(ch.out) > 0 && ch.credit > 0 {
		f.Messages = append(f.Messages, ch.out[0])
		ch.credit -= messageCost(ch.out[0])
		*size += len(ch.out[0])
		ch.out = ch.out[1:]
	}
	switch {
	case ch.err != nil: // we want to hear nothing more of it
		f.Close, f.Refusal = true, &coordv1.Refusal{Code: uint32(codes.Canceled), Message: "canceled"}
		delete(ch.t.mu.channels, ch.id)
	case ch.finish && !ch.finished && len(ch.out) == 0:
		f.Close, ch.finished = true, true
	}
	*size += 32
	if f.Open == 0 && f.Credit == 0 && len(f.Messages) == 0 && !f.Close {
		return nil
	}
	return f
}

// messages is a channel as gRPC's stream of a method, for etcd's client packages.
type messages[Req, Resp any] struct {
	ctx context.Context
	ch  *channel
}

func openMessages[Req, Resp any](ctx context.Context, t *transport, kind coordv1.ChannelKind) (*messages[Req, Resp],
	error) {
	ch, err := t.openChannel(ctx, kind)
	if err != nil {
		return nil, err
	}
	return &messages[Req, Resp]{ctx: ctx, ch: ch}, nil
}

func (m *messages[Req, Resp]) Send(req *Req) error { return m.SendMsg(req) }

func (m *messages[Req, Resp]) Recv() (*Resp, error) {
	resp := new(Resp)
	if err := m.RecvMsg(resp); err != nil {
		return nil, err
	}
	return resp, nil
}

var errNoMessage = errors.New("not a protobuf message")

func (m *messages[Req, Resp]) SendMsg(req any) error {
	message, ok := req.(proto.Message)
	if !ok {
		return errNoMessage
	}
	body, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	return m.ch.send(body)
}

func (m *messages[Req, Resp]) RecvMsg(resp any) error {
	message, ok := resp.(proto.Message)
	if !ok {
		return errNoMessage
	}
	body, err := m.ch.recv()
	if err != nil {
		return err
	}
	return proto.Unmarshal(body, message)
}

func (m *messages[Req, Resp]) CloseSend() error {
	m.ch.closeSend()
	return nil
}

func (m *messages[Req, Resp]) Context() context.Context     { return m.ctx }
func (m *messages[Req, Resp]) Header() (metadata.MD, error) { return nil, nil }
func (m *messages[Req, Resp]) Trailer() metadata.MD         { return nil }

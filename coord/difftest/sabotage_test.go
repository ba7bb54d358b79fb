package difftest

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// damage is one deliberate fault in what a server answers.
type damage struct {
	name string
	// want is a part of the report that the fault must cause.
	want string
	// with is a kind of step every sequence gets, for damage to what is rare.
	with kindID
	// answer changes a unary answer in place, or returns another error.
	answer func(req, m proto.Message, err error) error
	// stream returns what takes the place of one message of a stream.
	stream func(m proto.Message) []proto.Message
}

// saboteur stands between a server and the test and does the damage it is told.
type saboteur struct {
	damage atomic.Pointer[damage]
}

func (s *saboteur) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithUnaryInterceptor(s.unary), grpc.WithStreamInterceptor(s.streams)}
}

func (s *saboteur) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if d := s.damage.Load(); d != nil && d.answer != nil {
		return d.answer(req.(proto.Message), reply.(proto.Message), err)
	}
	return err
}

func (s *saboteur) streams(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer,
	opts ...grpc.CallOption) (grpc.ClientStream, error) {
	cs, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &damagedStream{ClientStream: cs, saboteur: s}, nil
}

// damagedStream replaces each message by what the damage makes of it. It is read by one goroutine, as any stream.
type damagedStream struct {
	grpc.ClientStream
	saboteur *saboteur
	queue    []proto.Message
}

func (s *damagedStream) RecvMsg(m any) error {
	for len(s.queue) == 0 {
		if err := s.ClientStream.RecvMsg(m); err != nil {
			return err
		}
		d := s.saboteur.damage.Load()
		if d == nil || d.stream == nil {
			return nil
		}
		s.queue = d.stream(proto.Clone(m.(proto.Message)))
	}
	proto.Reset(m.(proto.Message))
	proto.Merge(m.(proto.Message), s.queue[0])
	s.queue = s.queue[1:]
	return nil
}

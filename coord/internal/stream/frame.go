package stream

import (
	"errors"
	"fmt"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/proto/wire"
)

// frame is a coordv1.ClientFrame, taken apart as far as the stream looks into it. All slices alias its encoding.
type frame struct {
	hello     []byte // coordv1.Hello; nil if there is none
	batches   []batch
	heartbeat uint64
	channels  [][]byte // coordv1.ChannelFrame
	requests  []request
}

// batch is a coordv1.Batch; its requests are frame.requests[from:to].
type batch struct {
	shard        uint64 // 0: that of the hello
	session      int64
	acknowledged uint64
	from, to     int
}

// request is a coordv1.Request.
type request struct{ raftv1.ParsedRequest }

// parse takes the frame in data apart; what f held before is gone. It allocates only where a frame is larger than all
// before it.
func (f *frame) parse(data []byte) error {
	*f = frame{batches: f.batches[:0], channels: f.channels[:0], requests: f.requests[:0]}
	p := wire.Read(data)
	for p.Next() {
		switch {
		case p.IsBytes(1):
			if f.hello != nil {
				return errors.New("two hellos in one frame")
			}
			f.hello = p.Bytes
		case p.IsBytes(2):
			if err := f.parseBatch(p.Bytes); err != nil {
				return err
			}
		case p.IsVarint(3):
			f.heartbeat = p.Varint
		case p.IsBytes(4):
			f.channels = append(f.channels, p.Bytes)
		}
	}
	return wrap("frame", p.Err())
}

func (f *frame) parseBatch(data []byte) error {
	b := batch{from: len(f.requests)}
	p := wire.Read(data)
	for p.Next() {
		switch {
		case p.IsVarint(1):
			b.session = int64(p.Varint)
		case p.IsVarint(2):
			b.acknowledged = p.Varint
		case p.IsBytes(3):
			r, err := raftv1.ParseRequest(p.Bytes)
			if err != nil {
				return wrap("request", err)
			}
			f.requests = append(f.requests, request{r})
		case p.IsVarint(4):
			b.shard = p.Varint
		}
	}
	if p.Err() != nil {
		return wrap("batch", p.Err())
	}
	b.to = len(f.requests)
	f.batches = append(f.batches, b)
	return nil
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

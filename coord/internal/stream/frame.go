package stream

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
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
type request struct {
	raw      []byte // its encoding
	sequence uint64
	kind     coordv1.Kind
	body     []byte
	guards   int
}

// fields walks over an encoded message: number is the value of a varint, bytes that of a length-delimited field.
type fields struct {
	rest   []byte
	num    protowire.Number
	typ    protowire.Type
	number uint64
	bytes  []byte
	err    error
}

// next goes on to the next field; false at the end, where err says whether the encoding was sound.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	var n int
	if f.num, f.typ, n = protowire.ConsumeTag(f.rest); n < 0 {
		f.err = protowire.ParseError(n)
		return false
	}
	f.rest = f.rest[n:]
	switch f.typ {
	case protowire.VarintType:
		f.number, n = protowire.ConsumeVarint(f.rest)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(f.rest)
	default:
		n = protowire.ConsumeFieldValue(f.num, f.typ, f.rest)
	}
	if n < 0 {
		f.err = protowire.ParseError(n)
		return false
	}
	f.rest = f.rest[n:]
	return true
}

func (f *fields) isVarint(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.VarintType
}

func (f *fields) isBytes(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.BytesType
}

// parse takes the frame in data apart; what f held before is gone. It allocates only where a frame is larger than all
// before it.
func (f *frame) parse(data []byte) error {
	*f = frame{batches: f.batches[:0], channels: f.channels[:0], requests: f.requests[:0]}
	for p := (fields{rest: data}); ; {
		if !p.next() {
			return wrap("frame", p.err)
		}
		switch {
		case p.isBytes(1):
			if f.hello != nil {
				return errors.New("two hellos in one frame")
			}
			f.hello = p.bytes
			if f.hello == nil {
				f.hello = []byte{}
			}
		case p.isBytes(2):
			if err := f.parseBatch(p.bytes); err != nil {
				return err
			}
		case p.isVarint(3):
			f.heartbeat = p.number
		case p.isBytes(4):
			f.channels = append(f.channels, p.bytes)
		}
	}
}

func (f *frame) parseBatch(data []byte) error {
	b := batch{from: len(f.requests)}
	for p := (fields{rest: data}); ; {
		if !p.next() {
			if p.err != nil {
				return wrap("batch", p.err)
			}
			break
		}
		switch {
		case p.isVarint(1):
			b.session = int64(p.number)
		case p.isVarint(2):
			b.acknowledged = p.number
		case p.isBytes(3):
			r, err := parseRequest(p.bytes)
			if err != nil {
				return err
			}
			f.requests = append(f.requests, r)
		case p.isVarint(4):
			b.shard = p.number
		}
	}
	b.to = len(f.requests)
	f.batches = append(f.batches, b)
	return nil
}

func parseRequest(data []byte) (request, error) {
	r := request{raw: data}
	p := fields{rest: data}
	for p.next() {
		switch {
		case p.isVarint(1):
			r.sequence = p.number
		case p.isVarint(2):
			r.kind = coordv1.Kind(int32(p.number))
		case p.isBytes(3):
			r.body = p.bytes
		case p.isBytes(4):
			r.guards++
		}
	}
	return r, wrap("request", p.err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

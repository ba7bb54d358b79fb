package raftv1

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/wire"
)

// Requests of sessions and their outcomes are parsed and written by hand: they are most of what a busy log holds, and
// nothing is copied. Package machine's FuzzParse holds the parsers against the generated ones.

// ParsedRequests is a Requests. Its slices alias what was parsed.
type ParsedRequests struct {
	Session                      int64
	Created, Epoch, Acknowledged uint64
	Requests                     [][]byte // coordv1.Request
	UnixMS                       int64
}

// ParseRequests parses a Requests. With the error it returns what came before it.
func ParseRequests(body []byte) (r ParsedRequests, err error) {
	f := wire.Read(body)
	for f.Next() {
		switch {
		case f.IsVarint(1):
			r.Session = int64(f.Varint)
		case f.IsVarint(2):
			r.Created = f.Varint
		case f.IsVarint(3):
			r.Epoch = f.Varint
		case f.IsVarint(4):
			r.Acknowledged = f.Varint
		case f.IsBytes(requestsField):
			r.Requests = append(r.Requests, f.Bytes)
		case f.IsVarint(6):
			r.UnixMS = int64(f.Varint)
		}
	}
	return r, f.Err()
}

// requestsField is that of Requests which holds the requests.
const requestsField = 5

// requests yields those of a Requests, as far as it parses.
func requests(body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for f := wire.Read(body); f.Next(); {
			if f.IsBytes(requestsField) && !yield(f.Bytes) {
				return
			}
		}
	}
}

// ParsedRequest is a coordv1.Request. Its slices alias what was parsed.
type ParsedRequest struct {
	Raw      []byte // what was parsed
	Sequence uint64
	Kind     coordv1.Kind
	Body     []byte
	Guards   int // how many there are, see EachGuard
}

// Fields of coordv1.Request.
const (
	kindField   = 2
	guardsField = 4
)

// ParseRequest parses a coordv1.Request. With the error it returns what came before it.
func ParseRequest(request []byte) (r ParsedRequest, err error) {
	r.Raw = request
	f := wire.Read(request)
	for f.Next() {
		switch {
		case f.IsVarint(1):
			r.Sequence = f.Varint
		case f.IsVarint(kindField):
			r.Kind = enum(f.Varint)
		case f.IsBytes(3):
			r.Body = f.Bytes
		case f.IsBytes(guardsField):
			r.Guards++
		}
	}
	return r, f.Err()
}

// EachGuard yields the encodings of the guards, each a coordv1.Guard.
func (r ParsedRequest) EachGuard() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for f := wire.Read(r.Raw); f.Next(); {
			if f.IsBytes(guardsField) && !yield(f.Bytes) {
				return
			}
		}
	}
}

// kindOf is the kind of a coordv1.Request, as far as it parses.
func kindOf(request []byte) (k coordv1.Kind) {
	for len(request) > 0 {
		num, typ, v, _, n := wire.Field(request)
		if n < 0 {
			break
		}
		if request = request[n:]; num == kindField && typ == protowire.VarintType {
			k = enum(v)
		}
	}
	return k
}

// enum is the kind that a varint says: of enums the low 32 bits count.
func enum(v uint64) coordv1.Kind { return coordv1.Kind(int32(v)) }

// Fields of coordv1.Outcome.
const (
	OutcomeResponse protowire.Number = 1
	OutcomeRefusal  protowire.Number = 2
)

// EncodeOutcome returns the coordv1.Outcome that has a message in one of these fields.
func EncodeOutcome(field protowire.Number, message []byte) []byte {
	return wire.AppendBytes(make([]byte, 0, 1+protowire.SizeBytes(len(message))), field, message)
}

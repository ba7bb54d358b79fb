package machine

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Requests and their outcomes are parsed and written by hand: they are most of what a busy log holds, and nothing is
// copied. A fuzz test holds the parsers against the generated ones.

// requests is a raftv1.Requests. Its slices alias what was parsed.
type requests struct {
	session                      int64
	created, epoch, acknowledged uint64
	requests                     [][]byte
	unixMS                       int64
}

// request is a coordv1.Request. Its slices alias what was parsed.
type request struct {
	sequence uint64
	kind     coordv1.Kind
	body     []byte
	guards   [][]byte
}

// field is one field of a message: number if it is a varint, bytes if it has a length.
type field struct {
	num    protowire.Number
	typ    protowire.Type
	number uint64
	bytes  []byte
}

// parseFields calls fn for each field of a message that is a varint or has a length. It reports false where data is no
// message.
func parseFields(data []byte, fn func(field)) bool {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 || num > protowire.MaxValidNumber {
			return false
		}
		data = data[n:]
		f := field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(num, typ, data)
		}
		if n < 0 {
			return false
		}
		if typ == protowire.VarintType || typ == protowire.BytesType {
			fn(f)
		}
		data = data[n:]
	}
	return true
}

// is reports whether the field has this number and type.
func (f field) is(num protowire.Number, typ protowire.Type) bool { return f.num == num && f.typ == typ }

// parseRequests reports false where data is no message.
func parseRequests(data []byte) (r requests, ok bool) {
	ok = parseFields(data, func(f field) {
		switch {
		case f.is(1, protowire.VarintType):
			r.session = int64(f.number)
		case f.is(2, protowire.VarintType):
			r.created = f.number
		case f.is(3, protowire.VarintType):
			r.epoch = f.number
		case f.is(4, protowire.VarintType):
			r.acknowledged = f.number
		case f.is(5, protowire.BytesType):
			r.requests = append(r.requests, f.bytes)
		case f.is(6, protowire.VarintType):
			r.unixMS = int64(f.number)
		}
	})
	return r, ok
}

// parseRequest reports false where data is no message.
func parseRequest(data []byte) (r request, ok bool) {
	ok = parseFields(data, func(f field) {
		switch {
		case f.is(1, protowire.VarintType):
			r.sequence = f.number
		case f.is(2, protowire.VarintType):
			r.kind = coordv1.Kind(f.number)
		case f.is(3, protowire.BytesType):
			r.body = f.bytes
		case f.is(4, protowire.BytesType):
			r.guards = append(r.guards, f.bytes)
		}
	})
	return r, ok
}

// Fields of coordv1.Outcome.
const (
	outcomeResponse = 1
	outcomeRefusal  = 2
)

// encodeOutcome returns the coordv1.Outcome of a request that was executed.
func encodeOutcome(response []byte) []byte { return appendOutcome(outcomeResponse, response) }

// encodeRefusal returns the coordv1.Outcome of one that was refused.
func encodeRefusal(err error) []byte {
	refusal, merr := proto.MarshalOptions{Deterministic: true}.Marshal(statemachine.RefusalOf(err))
	if merr != nil { // the text is not UTF-8
		refusal, _ = proto.MarshalOptions{Deterministic: true}.Marshal(&coordv1.Refusal{
			Reason: statemachine.RefusalOf(err).Reason, Code: statemachine.RefusalOf(err).Code,
		})
	}
	return appendOutcome(outcomeRefusal, refusal)
}

func appendOutcome(num protowire.Number, message []byte) []byte {
	dst := make([]byte, 0, 1+protowire.SizeBytes(len(message)))
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendBytes(dst, message)
}

// encodeMessageOutcome is encodeOutcome of a message.
func encodeMessageOutcome(m proto.Message) ([]byte, error) {
	size := proto.Size(m)
	dst := make([]byte, 0, 1+protowire.SizeBytes(size))
	dst = protowire.AppendTag(dst, outcomeResponse, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	return proto.MarshalOptions{Deterministic: true, UseCachedSize: true}.MarshalAppend(dst, m)
}

// encodeRevisionOutcome is encodeOutcome of any of etcd's responses that has a header with a revision and nothing else.
func encodeRevisionOutcome(revision statemachine.Revision) []byte {
	header := 1 + protowire.SizeVarint(uint64(revision))
	response := 1 + protowire.SizeBytes(header)
	dst := make([]byte, 0, 1+protowire.SizeBytes(response))
	dst = append(protowire.AppendTag(dst, outcomeResponse, protowire.BytesType), byte(response))
	dst = append(protowire.AppendTag(dst, 1, protowire.BytesType), byte(header))
	return protowire.AppendVarint(protowire.AppendTag(dst, 3, protowire.VarintType), uint64(revision))
}

// acquiredKeys returns the keys of the entries in the coordv1.Acquired of a stored outcome; none where it is a refusal.
func acquiredKeys(outcome []byte) [][]byte {
	var keys [][]byte
	parseFields(outcome, func(f field) {
		if !f.is(outcomeResponse, protowire.BytesType) {
			return
		}
		parseFields(f.bytes, func(f field) {
			if !f.is(1, protowire.BytesType) { // entries
				return
			}
			parseFields(f.bytes, func(f field) {
				if f.is(2, protowire.BytesType) { // key
					keys = append(keys, f.bytes)
				}
			})
		})
	})
	return keys
}

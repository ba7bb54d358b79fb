package machine

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/proto/wire"
	"github.com/coord-dev/coord/statemachine"
)

// encodeOutcome returns the coordv1.Outcome of a request that was executed.
func encodeOutcome(response []byte) []byte {
	return raftv1.EncodeOutcome(raftv1.OutcomeResponse, response)
}

// encodeRefusal returns the coordv1.Outcome of one that was refused.
func encodeRefusal(err error) []byte {
	told, encoding := statemachine.RefusalOf(err), proto.MarshalOptions{Deterministic: true}
	refusal, merr := encoding.Marshal(told)
	if merr != nil { // the text is not UTF-8
		refusal, _ = encoding.Marshal(&coordv1.Refusal{Reason: told.Reason, Code: told.Code})
	}
	return raftv1.EncodeOutcome(raftv1.OutcomeRefusal, refusal)
}

// encodeMessageOutcome is encodeOutcome of a message.
func encodeMessageOutcome(m proto.Message) ([]byte, error) {
	size := proto.Size(m)
	dst := make([]byte, 0, 1+protowire.SizeBytes(size))
	dst = protowire.AppendTag(dst, raftv1.OutcomeResponse, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	return proto.MarshalOptions{Deterministic: true, UseCachedSize: true}.MarshalAppend(dst, m)
}

// encodeRevisionOutcome is encodeOutcome of any of etcd's responses that has a header with a revision and nothing else.
func encodeRevisionOutcome(revision statemachine.Revision) []byte {
	header := 1 + protowire.SizeVarint(uint64(revision))
	response := 1 + protowire.SizeBytes(header)
	dst := make([]byte, 0, 1+protowire.SizeBytes(response))
	dst = append(protowire.AppendTag(dst, raftv1.OutcomeResponse, protowire.BytesType), byte(response))
	dst = append(protowire.AppendTag(dst, 1, protowire.BytesType), byte(header))
	return wire.AppendVarint(dst, 3, uint64(revision))
}

// acquiredKeys returns the keys of the entries in the coordv1.Acquired of a stored outcome; none where it is a refusal.
func acquiredKeys(outcome []byte) (keys [][]byte) {
	const entries, key = 1, 2
	for o := wire.Read(outcome); o.Next(); {
		if !o.IsBytes(raftv1.OutcomeResponse) {
			continue
		}
		for a := wire.Read(o.Bytes); a.Next(); {
			if !a.IsBytes(entries) {
				continue
			}
			for e := wire.Read(a.Bytes); e.Next(); {
				if e.IsBytes(key) {
					keys = append(keys, e.Bytes)
				}
			}
		}
	}
	return keys
}

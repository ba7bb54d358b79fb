package recipes

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

// memberOf takes apart the values of entries of one of the kinds whose values are recipesv1.Members. sound, which may
// be nil, says whether there is in it what the kind needs.
func memberOf(kind uint64, sound func(*recipesv1.Member) bool) func(*Entry) bool {
	return func(e *Entry) bool {
		m := &recipesv1.Member{}
		if proto.Unmarshal(e.Value, m) != nil || uint64(m.Kind) != kind || sound != nil && !sound(m) {
			return false
		}
		e.Value, e.Write, e.Permits = m.Identity, m.Write, m.Permits
		return true
	}
}

// encodeValue is the value of the key of an entry, for a queue without priorities.
func encodeValue(kind uint64, e Entry) []byte {
	if kind == KindLock || kind == KindElection {
		return e.Value
	}
	return encode(&recipesv1.Member{Kind: uint32(kind), Identity: e.Value, Write: e.Write, Permits: e.Permits})
}

// encode encodes a value, to the same bytes on every replica. m has no strings, which might not be UTF-8.
func encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err))
	}
	return b
}

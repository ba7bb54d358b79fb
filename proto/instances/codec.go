package instances

import (
	"google.golang.org/protobuf/proto"
)

var deterministic = proto.MarshalOptions{Deterministic: true}

// marshal cannot fail: what goes in is checked to be UTF-8, and no field is required.
func marshal(m proto.Message) []byte {
	b, _ := deterministic.Marshal(m)
	return b
}

func unmarshal(b []byte, m proto.Message) error { return proto.Unmarshal(b, m) }

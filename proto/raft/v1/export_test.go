package raftv1

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Held is the message that is encoded in a field of type bytes, nil if it is none.
func Held(name protoreflect.FullName) proto.Message { return held[name] }

// HeldNames are the fields that hold messages.
func HeldNames() map[protoreflect.FullName]proto.Message { return held }

// Plain are the messages of the requests of a session that are no procedures.
func Plain() map[coordv1.Kind]proto.Message { return plain }

package stream

import (
	"go.uber.org/zap"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/transit"
)

// Codec is gRPC's codec for protobuf, except that frames of a native stream pass through it as the bytes they are
// (requests go into the log, and outcomes to the client, without being decoded), and messages that are followed until
// they are written, as those of watches are. It is for grpc.ForceServerCodecV2, so for all services: they all need the
// guard around decoding, which gRPC does before it asks any interceptor, and to the messages of the others it only adds
// a look at their type.
//
// There is no way to have it for some methods alone. gRPC takes a stream's codec from its content-subtype, which the
// client says: all clients of the native stream would have to say another one than protobuf's, and codecs have their
// names in a table of the process. Messages that marshal themselves (protoiface.Methods) are still copied once in each
// direction by gRPC's own codec, which takes back the bytes of a received message as soon as it is decoded and frees
// those of a sent one without telling anybody, so that nothing could be followed until it is written.
func Codec(log *zap.Logger) encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name), log} }

type codec struct {
	encoding.CodecV2
	log *zap.Logger
}

// received is a ClientFrame as it came. Its bytes are good until free.
type received struct{ buffer mem.Buffer }

func (r *received) bytes() []byte { return r.buffer.ReadOnlyData() }

func (r *received) free() {
	r.buffer.Free()
	r.buffer = nil
}

// Unmarshal runs outside of any interceptor: who sends what makes it panic gets an error, as for whatever does not
// parse.
func (c codec) Unmarshal(data mem.BufferSlice, v any) (err error) {
	defer guard.Recover(c.log, "decode", func(cause any) { err = guard.Status(cause) })
	if r, ok := v.(*received); ok {
		r.buffer = data.MaterializeToBuffer(mem.DefaultBufferPool())
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*transit.Message); ok {
		return m.Buffers(), nil
	}
	return c.CodecV2.Marshal(v)
}

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
// they are written. It is for grpc.ForceServerCodecV2.
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

package wire_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/coord-dev/coord/proto/wire"
)

// FuzzRead holds the reader against protobuf's own: what it takes for a message is one, and what it finds is all that
// is there.
func FuzzRead(f *testing.F) {
	f.Add(wire.AppendBytes(wire.AppendVarint(nil, 1, 300), 2, []byte("value")))
	f.Add(protowire.AppendFixed64(protowire.AppendTag(nil, 3, protowire.Fixed64Type), 7))
	f.Add([]byte{0x0b, 0x08, 0x01, 0x0c})                   // a group
	f.Add(protowire.AppendVarint(nil, 1<<32<<3|1<<3|2))     // a number whose low bits are another
	f.Add(protowire.AppendVarint(nil, 1<<29<<3))            // the first number that is none
	f.Add([]byte{0x12, 0x05, 'c', 'u', 't'})                // cut short
	f.Add([]byte{0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80}) // likewise
	f.Fuzz(func(t *testing.T, data []byte) {
		fields := wire.Read(data)
		rest := data
		for fields.Next() {
			num, typ, n := protowire.ConsumeField(rest)
			if n < 0 || num != fields.Number || typ != fields.Type {
				t.Fatalf("%x: field %d of type %d, protowire has %d of %d", data, fields.Number, fields.Type, num, typ)
			}
			_, _, tag := protowire.ConsumeTag(rest)
			value := rest[tag:n]
			rest = rest[n:]
			number, size := protowire.ConsumeVarint(value)
			is := typ == protowire.VarintType
			if is != fields.IsVarint(num) || is && (size < 0 || number != fields.Varint) {
				t.Fatalf("%x: field %d is %d, want %d", data, num, fields.Varint, number)
			}
			content, size := protowire.ConsumeBytes(value)
			is = typ == protowire.BytesType
			if is != fields.IsBytes(num) || is && (size < 0 || !bytes.Equal(content, fields.Bytes)) {
				t.Fatalf("%x: field %d is %x, want %x", data, num, fields.Bytes, content)
			}
		}
		if err := proto.Unmarshal(data, &emptypb.Empty{}); (err == nil) != (fields.Err() == nil) {
			t.Fatalf("%x: %v, protobuf: %v", data, fields.Err(), err)
		}
	})
}

func TestReadAllocatesNothing(t *testing.T) {
	message := wire.AppendBytes(wire.AppendVarint(nil, 1, 300), 2, []byte("value"))
	sum := uint64(0)
	if n := testing.AllocsPerRun(100, func() {
		for f := wire.Read(message); f.Next(); {
			sum += f.Varint + uint64(len(f.Bytes))
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Package wire reads protobuf messages as they are encoded: what is looked at before a message is decoded, or most
// often, and of which nothing is to be copied. All of this module that does goes through here, so that they agree on
// what is a message.
package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Fields walks over the fields of a message, in the order in which they are encoded:
//
//	for f := wire.Read(message); f.Next(); {
//		switch {
//		case f.IsVarint(1):
//			… f.Varint
//		case f.IsBytes(2):
//			… f.Bytes
//		}
//	}
//
// It allocates nothing. A field may come more than once, and may have another type than the message's definition says.
type Fields struct {
	Number protowire.Number
	Type   protowire.Type
	// Varint is the value of a field of that type, 0 of any other.
	Varint uint64
	// Bytes is what is in a field that has a length, nil in any other. It aliases the message.
	Bytes []byte

	rest []byte
	code int // < 0: why what follows does not parse
}

// Read walks over a message.
func Read(message []byte) Fields { return Fields{rest: message} }

// Next goes on to the next field. It reports false at the end, and where what follows does not parse: see Err.
func (f *Fields) Next() bool {
	if len(f.rest) == 0 {
		return false
	}
	n := 0
	if f.Number, f.Type, f.Varint, f.Bytes, n = Field(f.rest); n < 0 {
		f.rest, f.code = nil, n
		return false
	}
	f.rest = f.rest[n:]
	return true
}

// Err says why the message does not parse; nil as long as it does.
func (f *Fields) Err() error { return protowire.ParseError(f.code) }

// Field takes the first field of a message apart, as Fields has it, and says how many bytes it takes. Where it does not
// parse n is negative, what protowire.ParseError makes an error of. It is for loops that all that goes into the log
// passes through.
func Field(message []byte) (number protowire.Number, typ protowire.Type, v uint64, bytes []byte, n int) {
	tag, at := varint(message)
	if at < 0 {
		return 0, 0, 0, nil, at
	}
	// Above the greatest are none either: decoders that take the low bits only would find another field than we.
	if tag>>3 < uint64(protowire.MinValidNumber) || tag>>3 > uint64(protowire.MaxValidNumber) {
		return 0, 0, 0, nil, badNumber
	}
	number, typ = protowire.Number(tag>>3), protowire.Type(tag&7)
	switch typ {
	case protowire.BytesType:
		length, head := varint(message[at:])
		if head < 0 {
			return 0, 0, 0, nil, head
		}
		at += head
		if length > uint64(len(message)-at) {
			return 0, 0, 0, nil, cutShort
		}
		end := at + int(length)
		return number, typ, 0, message[at:end:end], end
	case protowire.VarintType:
		v, n = varint(message[at:])
	default:
		n = protowire.ConsumeFieldValue(number, typ, message[at:])
	}
	if n < 0 {
		return 0, 0, 0, nil, n
	}
	return number, typ, v, nil, at + n
}

// What protowire.ParseError makes the errors of.
var (
	_, _, badNumber = protowire.ConsumeTag([]byte{0})
	_, cutShort     = protowire.ConsumeBytes([]byte{1})
)

// IsVarint reports whether the field has this number and is a varint.
func (f *Fields) IsVarint(number protowire.Number) bool {
	return f.Number == number && f.Type == protowire.VarintType
}

// IsBytes reports whether the field has this number and a length.
func (f *Fields) IsBytes(number protowire.Number) bool {
	return f.Number == number && f.Type == protowire.BytesType
}

// varint is protowire.ConsumeVarint, and quick where it is one byte.
func varint(data []byte) (v uint64, n int) {
	if len(data) > 0 && data[0] < 0x80 {
		return uint64(data[0]), 1
	}
	return protowire.ConsumeVarint(data)
}

// AppendVarint appends a field with a varint.
func AppendVarint(dst []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.VarintType), v)
}

// AppendBytes appends a field with a length.
func AppendBytes(dst []byte, number protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, number, protowire.BytesType), v)
}

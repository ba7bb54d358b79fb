package raftv1_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"gotest.tools/v3/golden"

	_ "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	_ "github.com/coord-dev/coord/proto/recipes/v1"
)

// fill gives every field of a message a value that its number makes. Of a oneof the field with the index pick counts.
// Messages are nested to a depth.
func fill(m protoreflect.Message, pick, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if of := f.ContainingOneof(); of != nil && f.Index() != of.Fields().Get(pick%of.Fields().Len()).Index() {
			continue
		}
		switch {
		case f.Message() != nil && depth == 0:
		case f.IsMap():
			m.Mutable(f).Map().Set(scalar(f.MapKey(), 1).MapKey(), scalar(f.MapValue(), 2))
		case f.IsList():
			list := m.Mutable(f).List()
			for n := range 2 {
				if f.Message() != nil {
					fill(list.AppendMutable().Message(), pick+n, depth-1)
				} else {
					list.Append(scalar(f, n))
				}
			}
		case f.Message() != nil:
			fill(m.Mutable(f).Message(), pick, depth-1)
		default:
			m.Set(f, scalar(f, 0))
		}
	}
}

// scalar is the n-th value for a field.
func scalar(f protoreflect.FieldDescriptor, n int) protoreflect.Value {
	v := 1000*(n+1) + int(f.Number())
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprint("s", v))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(fmt.Append(nil, "b", v))
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(v))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(v))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(v))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(v))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(v))
	}
	return protoreflect.ValueOfInt64(int64(v))
}

func filled(t *testing.T, m proto.Message, pick int) []byte {
	m = m.ProtoReflect().New().Interface()
	fill(m.ProtoReflect(), pick, 3)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestGoldenMessages: the encoding of every message that the log, the store or a session keeps, with all of its fields.
// A line that changes is a format that changes: members of two releases would not understand each other, nor a release
// what the one before wrote. Lines may be added with what a new version of the cluster brings.
func TestGoldenMessages(t *testing.T) {
	var lines []string
	var add func(messages protoreflect.MessageDescriptors)
	add = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			d := messages.Get(i)
			if d.IsMapEntry() {
				continue
			}
			lines = append(lines, describe(d)...)
			add(d.Messages())
		}
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package()), "coord.") {
			add(file.Messages())
			for i := range file.Enums().Len() {
				lines = append(lines, describeEnum(file.Enums().Get(i)))
			}
		}
		return true
	})
	for _, m := range []proto.Message{
		&pb.PutRequest{}, &pb.DeleteRangeRequest{}, &pb.TxnRequest{}, &pb.Compare{}, &pb.RequestOp{},
		&pb.RangeRequest{}, &pb.CompactionRequest{}, &pb.AlarmRequest{},
		&pb.LeaseGrantRequest{}, &pb.LeaseRevokeRequest{}, &pb.PutResponse{}, &pb.DeleteRangeResponse{},
		&pb.TxnResponse{}, &pb.ResponseOp{},
		&pb.LeaseGrantResponse{}, &pb.LeaseRevokeResponse{},
	} {
		lines = append(lines, describe(m.ProtoReflect().Descriptor())...)
	}
	slices.Sort(lines)
	golden.Assert(t, strings.Join(lines, "\n")+"\n", "messages")
}

// describe is a line for each field of a message: what stands in the encoding.
func describe(d protoreflect.MessageDescriptor) (lines []string) {
	fields := d.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		kind := f.Kind().String()
		switch {
		case f.IsMap():
			kind = fmt.Sprintf("map<%v, %v>", f.MapKey().Kind(), f.MapValue().Kind())
		case f.Message() != nil:
			kind = string(f.Message().FullName())
		case f.Enum() != nil:
			kind = string(f.Enum().FullName())
		}
		lines = append(lines, fmt.Sprintf("%s %05d %s %s packed=%v", d.FullName(), f.Number(), f.Cardinality(), kind,
			f.IsPacked()))
	}
	if fields.Len() == 0 {
		lines = append(lines, string(d.FullName()))
	}
	return lines
}

func describeEnum(d protoreflect.EnumDescriptor) string {
	line := string(d.FullName())
	for i := range d.Values().Len() {
		v := d.Values().Get(i)
		line += fmt.Sprintf(" %s=%d", v.Name(), v.Number())
	}
	return line
}

// TestGoldenEntry: the bytes of an entry with a command of each kind there is. What was written stays readable.
func TestGoldenEntry(t *testing.T) {
	e := &raftv1.Entry{Member: 0x8e9e05c52164694d, Boot: 3, Start: 1 << 40, Number: 300, Settled: 299}
	for kind := raftv1.Kind(1); !kind.Unknown(); kind++ {
		if kind.Body() == nil {
			t.Fatalf("%v has no body here", kind)
		}
		e.Commands = append(e.Commands, raftv1.Command{Kind: kind, Body: filled(t, kind.Body(), int(kind))})
	}
	e.Commands[0].By = raftv1.Principal{User: "somebody", AuthRevision: 300}
	e.Commands[raftv1.KindTick-1].By = raftv1.Principal{Member: true}
	data := raftv1.AppendEntry(nil, e)
	golden.Assert(t, fmt.Sprintf("%x\n", data), "entry")
	var written []byte
	if _, err := fmt.Sscanf(string(golden.Get(t, "entry")), "%x", &written); err != nil {
		t.Fatal(err)
	}
	read, err := raftv1.DecodeEntry(written)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range read.Commands {
		if c.By != e.Commands[i].By {
			t.Errorf("%v: by %+v", c.Kind, c.By)
		}
		m := c.Kind.Body().ProtoReflect()
		if err := proto.Unmarshal(c.Body, m.Interface()); err != nil || len(m.GetUnknown()) > 0 {
			t.Errorf("%v: %v, unknown %x", c.Kind, err, m.GetUnknown())
		}
	}
}

package raftv1_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
)

var schema = raftv1.NewSchema(raftv1.Since, recipes.Procedures())

// unknown is a field that no message has.
var unknown = protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), "of a newer client")

// painter encodes messages with an unknown field in one of them: the n-th that it comes to. Those in fields of type
// bytes count, too.
type painter struct {
	t     *testing.T
	n, at int
}

// encode fills a message and encodes it. Of a oneof the field with the index pick counts.
func (p *painter) encode(m proto.Message, pick int) []byte {
	m = m.ProtoReflect().New().Interface()
	fill(m.ProtoReflect(), pick, 4)
	return p.paint(m)
}

func (p *painter) paint(m proto.Message) []byte {
	p.visit(m.ProtoReflect())
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		p.t.Fatal(err)
	}
	return data
}

func (p *painter) visit(m protoreflect.Message) {
	if p.n == p.at {
		m.SetUnknown(unknown)
	}
	p.n++
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		held := raftv1.Held(fd.FullName())
		switch {
		case !m.Has(fd):
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				m.Get(fd).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					p.visit(v.Message())
					return true
				})
			}
		case fd.IsList() && (held != nil || fd.Message() != nil):
			for n := range m.Get(fd).List().Len() {
				if held == nil {
					p.visit(m.Get(fd).List().Get(n).Message())
				} else if fd.FullName() != "coord.raft.v1.Requests.requests" {
					m.Get(fd).List().Set(n, protoreflect.ValueOfBytes(p.encode(held, n)))
				}
			}
		case held != nil:
			m.Set(fd, protoreflect.ValueOfBytes(p.encode(held, 0)))
		case fd.Message() != nil:
			p.visit(m.Get(fd).Message())
		}
	}
}

// commands are all that can be in the log: each kind, each procedure, each kind of request, with all their fields.
func commands() map[string]func(*painter) raftv1.Command {
	all := map[string]func(*painter) raftv1.Command{}
	request := func(kind coordv1.Kind, body proto.Message) {
		all[kind.String()] = func(p *painter) raftv1.Command {
			r := &coordv1.Request{
				Sequence: 1, Kind: kind, Body: p.encode(body, int(kind)), Guards: []*coordv1.Guard{{Name: "g"}, {}},
			}
			requests := &raftv1.Requests{
				Session: 1, Requests: [][]byte{p.paint(&coordv1.Request{Sequence: 2, Kind: coordv1.Kind_KIND_PUT}),
					p.paint(r)},
			}
			return raftv1.Command{Kind: raftv1.KindRequests, Body: p.paint(requests)}
		}
	}
	for kind := raftv1.Kind(1); !kind.Unknown(); kind++ {
		for pick := range 4 { // of operations and compares
			if kind != raftv1.KindCall && kind != raftv1.KindRequests {
				all[fmt.Sprint(kind, " ", pick)] = func(p *painter) raftv1.Command {
					return raftv1.Command{Kind: kind, Body: p.encode(kind.Body(), pick)}
				}
			}
		}
	}
	for _, procedure := range recipes.Procedures() {
		all[procedure.Name()] = func(p *painter) raftv1.Command {
			call := &raftv1.Call{Procedure: procedure.Name(), Request: p.encode(procedure.Request(), 0), UnixMs: 1}
			return raftv1.Command{Kind: raftv1.KindCall, Body: p.paint(call)}
		}
		if procedure.Kind() != coordv1.Kind_KIND_UNSPECIFIED {
			request(procedure.Kind(), procedure.Request())
		}
	}
	for kind, body := range raftv1.Plain() {
		request(kind, body)
	}
	return all
}

// TestUnknownFieldsAreStripped: wherever a field that nobody knows stands in a command, in whatever message of it, it
// is taken out, and nothing else is.
func TestUnknownFieldsAreStripped(t *testing.T) {
	messages := 0
	for name, command := range commands() {
		p := &painter{t: t, at: -1}
		clean := command(p)
		if got := schema.Strip(clean, raftv1.MaxVersion); !bytes.Equal(got.Body, clean.Body) {
			t.Errorf("%s: it is changed where all is known\n%x\n%x", name, clean.Body, got.Body)
		}
		for at := range p.n {
			painted := command(&painter{t: t, at: at})
			if !bytes.Contains(painted.Body, unknown) {
				t.Fatalf("%s: message %d has no unknown field", name, at)
			}
			if got := schema.Strip(painted, raftv1.MaxVersion); !bytes.Equal(got.Body, clean.Body) ||
				got.Kind != clean.Kind {
				t.Errorf("%s, in its message %d of %d:\n%x, not\n%x", name, at, p.n, got.Body, clean.Body)
			}
		}
		messages += p.n
	}
	if messages < 400 {
		t.Errorf("only %d messages", messages)
	}
}

// TestKnownNumbersOfAnotherType: a field that comes as another type is one that nobody knows, but for lists of numbers,
// which may come packed or not.
func TestKnownNumbersOfAnotherType(t *testing.T) {
	varint := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 5)
	packed := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte{5, 6})
	group := protowire.AppendTag(protowire.AppendTag(nil, 1, protowire.StartGroupType), 1, protowire.EndGroupType)
	for what, c := range map[string]struct {
		kind       raftv1.Kind
		body, want []byte
	}{
		"a key that is a number": {raftv1.KindPut, varint, nil},
		"a group":                {raftv1.KindPut, group, nil},
		"packed":                 {raftv1.KindLeaseRenew, packed, packed},
		"not packed":             {raftv1.KindLeaseRenew, varint, varint},
		"a number that is bytes": {raftv1.KindLeaseRevoke, packed, nil},
		"what does not parse":    {raftv1.KindPut, unknown[:4], unknown[:4]},
		"an unknown kind":        {99, unknown, unknown},
	} {
		got := schema.Strip(raftv1.Command{Kind: c.kind, Body: c.body}, raftv1.MaxVersion)
		if !bytes.Equal(got.Body, c.want) {
			t.Errorf("%s: %x, not %x", what, got.Body, c.want)
		}
	}
}

// opaque are the fields of type bytes in commands that hold no message of ours: keys, values, and what only clients
// understand.
var opaque = strings.Fields(`
	etcdserverpb.PutRequest.key etcdserverpb.PutRequest.value etcdserverpb.RangeRequest.key etcdserverpb.RangeRequest.range_end
	etcdserverpb.DeleteRangeRequest.key etcdserverpb.DeleteRangeRequest.range_end
	etcdserverpb.Compare.key etcdserverpb.Compare.value etcdserverpb.Compare.range_end
	coord.raft.v1.Call.request coord.v1.Request.body
	coord.v1.Campaign.value coord.v1.Proclaim.value
	coord.v1.GroupJoin.data coord.v1.GroupUpdate.data coord.v1.ServiceInstance.load coord.v1.ServiceInstance.endpoint
	coord.v1.ConfigDocument.content coord.v1.ConfigSchema.content coord.v1.ConfigVersion.hash coord.v1.ForceReleaseRequest.key
`)

// TestBytesAreClassified: a new field of type bytes must be named above, or in held if it holds a message: else unknown
// fields of that would get into the log.
func TestBytesAreClassified(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	found := map[string]bool{}
	var look func(d protoreflect.MessageDescriptor)
	look = func(d protoreflect.MessageDescriptor) {
		if seen[d.FullName()] {
			return
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			name := string(fd.FullName())
			switch held := raftv1.Held(fd.FullName()); {
			case held != nil:
				found[name] = true
				look(held.ProtoReflect().Descriptor())
			case fd.Kind() == protoreflect.BytesKind:
				found[name] = true
				if !slices.Contains(opaque, name) {
					t.Errorf("%s: is a message encoded in it?", name)
				}
			case fd.Message() != nil:
				look(fd.Message())
			}
		}
	}
	for kind := raftv1.Kind(1); !kind.Unknown(); kind++ {
		look(kind.Body().ProtoReflect().Descriptor())
	}
	for _, p := range recipes.Procedures() {
		look(p.Request().ProtoReflect().Descriptor())
	}
	for _, m := range raftv1.Plain() {
		look(m.ProtoReflect().Descriptor())
	}
	for name := range raftv1.HeldNames() {
		opaque = append(opaque, string(name))
	}
	for _, name := range opaque {
		if !found[name] {
			t.Errorf("no command has %s", name)
		}
	}
}

// TestStripAllocatesNothing where all is known: every command goes through it.
func TestStripAllocatesNothing(t *testing.T) {
	for name, command := range commands() {
		c := command(&painter{t: t, at: -1})
		if n := testing.AllocsPerRun(10, func() { schema.Strip(c, raftv1.MaxVersion) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// later is the schema of a made-up release.
var later = raftv1.NewSchema(map[string]raftv1.Version{
	"StateHash": 2, recipes.GateOpen: 2, "KIND_GATE_OPEN": 2, "coord.v1.Acquire.try": 2,
	"etcdserverpb.PutRequest.prev_kv": 2, "KIND_PROCLAIM": 3,
}, recipes.Procedures())

// TestWhatCameLater: before its version a kind of command, a procedure or a kind of request is refused by name, and a
// field is stripped.
func TestWhatCameLater(t *testing.T) {
	encode := func(m proto.Message) []byte {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	requests := func(kinds ...coordv1.Kind) raftv1.Command {
		r := &raftv1.Requests{Session: 1}
		for _, k := range kinds {
			r.Requests = append(r.Requests, encode(&coordv1.Request{
				Sequence: 1, Kind: k, Body: encode(&coordv1.GateOpen{Name: "g"}),
			}))
		}
		return raftv1.Command{Kind: raftv1.KindRequests, Body: encode(r)}
	}
	for name, c := range map[string]struct {
		command raftv1.Command
		since   raftv1.Version
	}{
		"StateHash": {raftv1.Command{Kind: raftv1.KindStateHash}, 2},
		"gate.open.v1": {raftv1.Command{
			Kind: raftv1.KindCall, Body: encode(&raftv1.Call{Procedure: recipes.GateOpen}),
		}, 2},
		"gate.close.v1": {raftv1.Command{
			Kind: raftv1.KindCall, Body: encode(&raftv1.Call{Procedure: recipes.GateClose}),
		}, 1},
		"KIND_GATE_OPEN": {requests(coordv1.Kind_KIND_PUT, coordv1.Kind_KIND_GATE_OPEN), 2},
		"KIND_PROCLAIM":  {requests(coordv1.Kind_KIND_PROCLAIM), 3},
		"KIND_RELEASE":   {requests(coordv1.Kind_KIND_RELEASE), 1},
	} {
		for v := raftv1.Version(1); v <= 3; v++ {
			err := later.Check(c.command, v)
			if v >= c.since {
				if err != nil {
					t.Errorf("%s at version %d: %v", name, v, err)
				}
			} else if want := fmt.Sprintf("%s needs version %d of the cluster, which is at version %d: upgrade all "+
				"members first", name, c.since, v); !errors.Is(err, raftv1.ErrEarly) ||
				!strings.Contains(err.Error(), want) {
				t.Errorf("%s at version %d: %v", name, v, err)
			}
		}
	}
	if err := later.CheckRequest(coordv1.Kind_KIND_GATE_OPEN, 1); !errors.Is(err, raftv1.ErrEarly) ||
		later.CheckRequest(coordv1.Kind_KIND_GATE_OPEN, 2) != nil {
		t.Error(err)
	}

	acquire := func(try bool) raftv1.Command {
		body := encode(&coordv1.Acquire{Names: []string{"a"}, OwnerId: "o", Try: try})
		request := encode(&coordv1.Request{Sequence: 1, Kind: coordv1.Kind_KIND_ACQUIRE, Body: body})
		return raftv1.Command{
			Kind: raftv1.KindRequests, Body: encode(&raftv1.Requests{Session: 1, Requests: [][]byte{request}}),
		}
	}
	txn := func(prev bool) raftv1.Command {
		op := &pb.RequestOp{
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), PrevKv: prev}},
		}
		return raftv1.Command{Kind: raftv1.KindTxn, Body: encode(&pb.TxnRequest{Failure: []*pb.RequestOp{op}})}
	}
	for what, c := range map[string][2]raftv1.Command{
		"acquire": {acquire(true), acquire(false)}, "txn": {txn(true), txn(false)},
	} {
		if got := later.Strip(c[0], 1); !bytes.Equal(got.Body, c[1].Body) {
			t.Errorf("%s at version 1: %x, not %x", what, got.Body, c[1].Body)
		}
		if got := later.Strip(c[0], 2); !bytes.Equal(got.Body, c[0].Body) {
			t.Errorf("%s at version 2: %x, not %x", what, got.Body, c[0].Body)
		}
	}
}

// TestSinceNamesWhatThereIs, of versions that this release knows. So does Features.
func TestSinceNamesWhatThereIs(t *testing.T) {
	names := map[string]bool{}
	for kind := raftv1.Kind(1); !kind.Unknown(); kind++ {
		names[kind.String()] = true
	}
	for _, p := range recipes.Procedures() {
		names[p.Name()] = true
	}
	for _, kind := range coordv1.Kind_name {
		names[kind] = true
	}
	for name, v := range raftv1.Since {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		_, isField := d.(protoreflect.FieldDescriptor)
		if v <= 1 || v > raftv1.MaxVersion || !names[name] && (err != nil || !isField) {
			t.Errorf("%s since version %d", name, v)
		}
	}
	for name, v := range coordv1.Features {
		if name == "" || v < 1 || v > uint32(raftv1.MaxVersion) {
			t.Errorf("feature %q since version %d", name, v)
		}
	}
	if !slices.Contains(slices.Collect(maps.Keys(coordv1.Features)), coordv1.FeatureRecipes) {
		t.Error("no recipes")
	}
}

// TestCheckFeatures: a feature that is not known, or that came later, is refused by name.
func TestCheckFeatures(t *testing.T) {
	known := map[string]uint32{"old": 1, "new": 2}
	for want, named := range map[string][]string{
		"": {"old", "old"}, `does not know the feature "made-up": upgrade all members first`: {"old", "made-up"},
		`the feature "new" needs version 2 of the cluster, which is at version 1: upgrade all members first`: {"new"},
	} {
		err := raftv1.CheckFeatures(named, known, 1)
		if (err == nil) != (want == "") || err != nil && (!errors.Is(err, raftv1.ErrEarly) ||
			!strings.Contains(err.Error(), want)) {
			t.Errorf("%v: %v", named, err)
		}
	}
	if err := raftv1.CheckFeatures([]string{"new"}, known, 2); err != nil {
		t.Error(err)
	}
}

// TestStripTakesTimeByTheBytes: a request is looked at once, however often it has a body.
func TestStripTakesTimeByTheBytes(t *testing.T) {
	request, err := proto.Marshal(&coordv1.Request{Sequence: 1, Kind: coordv1.Kind_KIND_ACQUIRE})
	if err != nil {
		t.Fatal(err)
	}
	for range 200_000 {
		request = protowire.AppendBytes(protowire.AppendTag(request, 3, protowire.BytesType), nil)
	}
	body, err := proto.Marshal(&raftv1.Requests{Session: 1, Requests: [][]byte{request}})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	schema.Strip(raftv1.Command{Kind: raftv1.KindRequests, Body: append(body, unknown...)}, raftv1.MaxVersion)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func BenchmarkStrip(b *testing.B) {
	put, _ := proto.Marshal(&pb.PutRequest{Key: []byte("/registry/key/00000001"), Value: make([]byte, 256), Lease: 7})
	acquire, _ := proto.Marshal(&coordv1.Acquire{
		Names: []string{"a"}, OwnerId: "1", Owner: "host:1234", Labels: map[string]string{"a": "b"},
	})
	request, _ := proto.Marshal(&coordv1.Request{Sequence: 1000, Kind: coordv1.Kind_KIND_ACQUIRE, Body: acquire})
	requests, _ := proto.Marshal(&raftv1.Requests{
		Session: 1 << 60, Created: 1 << 20, Epoch: 2, Requests: [][]byte{request}, UnixMs: 1 << 40,
	})
	for _, c := range []raftv1.Command{{Kind: raftv1.KindPut, Body: put}, {Kind: raftv1.KindRequests, Body: requests}} {
		b.Run(c.Kind.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				schema.Strip(c, raftv1.MaxVersion)
			}
		})
	}
}

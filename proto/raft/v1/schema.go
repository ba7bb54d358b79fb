package raftv1

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/wire"
)

// Schema knows what commands are made of at each version of the cluster: which kinds, procedures and kinds of requests
// there are, and which fields in them. A field that nobody knows must not get into the log: the release that brings it
// would obey the same entry in another way than this one.
type Schema struct {
	since      map[string]Version
	newest     Version // of since
	commands   [lastKind + 1]*message
	requests   [MaxRequestKind + 1]*message
	procedures map[string]*message
	messages   map[protoreflect.FullName]*message
}

// Procedure is what a Schema has to know of one.
type Procedure interface {
	// Name is how a Call names it, and Kind how a request of a session does, KIND_UNSPECIFIED if none can.
	Name() string
	Kind() coordv1.Kind
	// Request is an empty message of what its request encodes; nil: bytes without fields.
	Request() proto.Message
}

// message is what stands in an encoded one.
type message struct {
	name   protoreflect.FullName
	fields []field // by number
}

// field is one of a message; the zero value is none.
type field struct {
	known  bool
	wire   protowire.Type
	packed bool // if it is repeated: it may also come as bytes
	since  Version
	inner  *message                    // the message that is nested in it, or encoded as its bytes
	named  func(outer []byte) *message // is inner, where another field of the message outer names it
}

// bodies are the messages of the kinds of commands.
var bodies = [lastKind + 1]proto.Message{
	KindPut: &pb.PutRequest{}, KindDeleteRange: &pb.DeleteRangeRequest{}, KindTxn: &pb.TxnRequest{},
	KindCompact:    &pb.CompactionRequest{},
	KindLeaseGrant: &LeaseGrant{}, KindLeaseRevoke: &LeaseRevoke{}, KindLeaseRenew: &LeaseRenew{}, KindTick: &Tick{},
	KindAlarm: &pb.AlarmRequest{}, KindMemberPut: &MemberPut{}, KindMemberRemove: &MemberRemove{},
	KindStateHash: &StateHash{},
	KindCall:      &Call{}, KindSessionOpen: &SessionOpen{}, KindSessionAttach: &SessionAttach{},
	KindSessionEnd:  &SessionEnd{},
	KindStreamRenew: &StreamRenew{}, KindRequests: &Requests{}, KindVersionRaise: &VersionRaise{},
	KindHistoryBegin: &HistoryBegin{},
}

// Body is an empty message of what a command of this kind carries; nil where this release does not know the kind.
func (k Kind) Body() proto.Message {
	if k.Unknown() || bodies[k] == nil {
		return nil
	}
	return bodies[k].ProtoReflect().New().Interface()
}

// plain are the messages of those requests of a session that are no procedures.
var plain = map[coordv1.Kind]proto.Message{
	coordv1.Kind_KIND_PUT: &pb.PutRequest{}, coordv1.Kind_KIND_DELETE_RANGE: &pb.DeleteRangeRequest{},
	coordv1.Kind_KIND_TXN:         &pb.TxnRequest{},
	coordv1.Kind_KIND_LEASE_GRANT: &pb.LeaseGrantRequest{}, coordv1.Kind_KIND_LEASE_REVOKE: &pb.LeaseRevokeRequest{},
	coordv1.Kind_KIND_WITHDRAW: &coordv1.Withdraw{},
}

// held are the fields of type bytes in which a message is encoded, beside those that name it themselves: Call.request
// and Request.body.
var held = map[protoreflect.FullName]proto.Message{
	"coord.raft.v1.Requests.requests":       &coordv1.Request{},
	"coord.raft.v1.SessionOpen.identity":    &coordv1.Identity{},
	"coord.recipes.v1.ServicePut.record":    &coordv1.ServiceInstance{},
	"coord.recipes.v1.ServiceRemove.note":   &coordv1.ServiceOrder{},
	"coord.recipes.v1.ServiceFound.record":  &coordv1.ServiceProbed{},
	"coord.recipes.v1.ConfigCommit.version": &coordv1.ConfigVersion{},
	"coord.recipes.v1.ConfigCommit.schemas": &coordv1.ConfigSchemas{},
}

// NewSchema is of a release with these procedures, of which since has what came later than with version 1.
func NewSchema[P Procedure](since map[string]Version, procedures []P) *Schema {
	s := &Schema{
		since: since, procedures: make(map[string]*message), messages: make(map[protoreflect.FullName]*message),
	}
	for _, v := range since {
		s.newest = max(s.newest, v)
	}
	for kind, m := range plain {
		s.requests[kind] = s.message(m.ProtoReflect().Descriptor())
	}
	for _, p := range procedures {
		if m := p.Request(); m != nil {
			s.procedures[p.Name()] = s.message(m.ProtoReflect().Descriptor())
			if kind := p.Kind(); kind > 0 && kind <= MaxRequestKind {
				s.requests[kind] = s.procedures[p.Name()]
			}
		}
	}
	for kind, m := range bodies {
		if m != nil {
			s.commands[kind] = s.message(m.ProtoReflect().Descriptor())
		}
	}
	return s
}

// message is what stands in messages of a type, those in them included: a transaction can be in a transaction.
func (s *Schema) message(d protoreflect.MessageDescriptor) *message {
	if m := s.messages[d.FullName()]; m != nil {
		return m
	}
	m := &message{name: d.FullName()}
	s.messages[m.name] = m
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		for int(fd.Number()) >= len(m.fields) {
			m.fields = append(m.fields, field{})
		}
		f := field{known: true, wire: wireOf(fd.Kind()), packed: fd.IsList(), since: s.since[string(fd.FullName())]}
		switch inside := held[fd.FullName()]; {
		case inside != nil:
			f.inner = s.message(inside.ProtoReflect().Descriptor())
		case fd.FullName() == "coord.raft.v1.Call.request":
			f.named = func(call []byte) *message { return s.procedures[string(procedureOf(call))] }
		case fd.FullName() == "coord.v1.Request.body":
			f.named = s.bodyOf
		case fd.Message() != nil:
			f.inner = s.message(fd.Message())
		}
		m.fields[fd.Number()] = f
	}
	return m
}

func wireOf(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	}
	return protowire.VarintType
}

// bodyOf is the message in the body of a request.
func (s *Schema) bodyOf(request []byte) *message {
	if kind := kindOf(request); kind > 0 && kind <= MaxRequestKind {
		return s.requests[kind]
	}
	return nil
}

// Later says whether there is something that came later than with version v.
func (s *Schema) Later(v Version) bool { return s.newest > v }

// Check says whether a cluster at version v may have a command of this kind, a call of that procedure, or such
// requests. The error wraps ErrEarly.
func (s *Schema) Check(c Command, v Version) error {
	if !s.Later(v) {
		return nil
	}
	if err := s.check(c.Kind.String(), v); err != nil {
		return err
	}
	switch c.Kind {
	case KindCall:
		return s.check(ProcedureOf(c), v)
	case KindRequests:
		for request := range requests(c.Body) {
			if err := s.check(kindOf(request).String(), v); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckRequest is Check for a request of a session.
func (s *Schema) CheckRequest(k coordv1.Kind, v Version) error {
	if !s.Later(v) {
		return nil
	}
	return s.check(k.String(), v)
}

func (s *Schema) check(name string, v Version) error {
	if from := s.since[name]; from > v {
		return needs(name, from, v)
	}
	return nil
}

// Strip returns the command without those fields that a cluster at version v does not have; the same, where there are
// none. What does not parse stays as it is: all members refuse it.
func (s *Schema) Strip(c Command, v Version) Command {
	if c.Kind > lastKind || s.commands[c.Kind] == nil {
		return c
	}
	c.Body = s.strip(s.commands[c.Kind], c.Body, v)
	return c
}

func (s *Schema) strip(m *message, data []byte, v Version) []byte {
	if s.has(m, data, v) {
		return data
	}
	of, err := protoregistry.GlobalTypes.FindMessageByName(m.name)
	if err != nil {
		return data
	}
	parsed := of.New()
	if proto.Unmarshal(data, parsed.Interface()) != nil {
		return data
	}
	s.clear(m, parsed, data, v)
	stripped, err := proto.MarshalOptions{Deterministic: true}.Marshal(parsed.Interface())
	if err != nil {
		return data
	}
	return stripped
}

// has says whether all fields in an encoded m are such that a cluster at version v has them, as far as it parses. All
// that goes into the log comes through here: it allocates nothing.
func (s *Schema) has(m *message, data []byte, v Version) bool {
	var named *message // looked for once, as the field can come any number of times
	looked := false
	for rest := data; len(rest) > 0; {
		num, typ, _, value, n := wire.Field(rest)
		if n < 0 {
			return true
		}
		rest = rest[n:]
		f := m.field(num)
		if !f.known || f.since > v || typ != f.wire && !(f.packed && typ == protowire.BytesType) {
			return false
		}
		inner := f.inner
		if f.named != nil {
			if !looked {
				named, looked = f.named(data), true
			}
			inner = named
		}
		if inner != nil && !s.has(inner, value, v) {
			return false
		}
	}
	return true
}

func (m *message) field(num protowire.Number) *field {
	if int(num) < len(m.fields) {
		return &m.fields[num]
	}
	return &absent
}

// absent is the field of a number that there is not.
var absent field

// clear takes out of a message what has looks for. data is its encoding, where fields can name what is in others.
func (s *Schema) clear(m *message, parsed protoreflect.Message, data []byte, v Version) {
	parsed.SetUnknown(nil)
	parsed.Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		f := m.field(fd.Number())
		inner := f.inner
		if f.named != nil {
			inner = f.named(data)
		}
		switch {
		case f.since > v:
			parsed.Clear(fd)
		case inner == nil:
		case fd.IsMap():
			if of := inner.field(2).inner; of != nil {
				value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
					s.clear(of, value.Message(), nil, v)
					return true
				})
			}
		case fd.IsList():
			list := value.List()
			for i := range list.Len() {
				if fd.Message() != nil {
					s.clear(inner, list.Get(i).Message(), nil, v)
				} else {
					list.Set(i, protoreflect.ValueOfBytes(s.strip(inner, list.Get(i).Bytes(), v)))
				}
			}
		case fd.Message() != nil:
			s.clear(inner, value.Message(), nil, v)
		default:
			parsed.Set(fd, protoreflect.ValueOfBytes(s.strip(inner, value.Bytes(), v)))
		}
		return true
	})
}

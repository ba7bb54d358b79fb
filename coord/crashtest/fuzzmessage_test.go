package crashtest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// choices turns the input of a fuzz target into decisions: each takes some of its bytes, so that the fuzzer can change
// one without changing all that follow, and cut an input short. At the end all decisions are 0.
type choices struct {
	rest  []byte
	focus []string // names that the program comes back to, so that what it does meets
	// forges says that the program mostly forges rows below the reserved prefix, in the middle of sessions too.
	forges bool
}

func choicesOf(acts []byte) *choices {
	c := &choices{rest: acts}
	for range 3 {
		c.focus = append(c.focus, pick(c, "a", "a/b", "jobs", "jobs/1", "x", "s", "rw", pick(c, words...)))
	}
	c.forges = c.oneIn(3)
	return c
}

func (c *choices) over() bool { return len(c.rest) == 0 }

// below returns a number in [0, n).
func (c *choices) below(n int) int {
	if n <= 1 || c.over() {
		return 0
	}
	size := (bits.Len(uint(n-1)) + 7) / 8
	var b [8]byte
	size = copy(b[:], c.rest[:min(size, len(c.rest))])
	c.rest = c.rest[size:]
	return int(binary.LittleEndian.Uint64(b[:]) % uint64(n))
}

// oneIn is true once in n times.
func (c *choices) oneIn(n int) bool { return c.below(n) == n-1 }

func (c *choices) bytes(n int) []byte {
	n = min(n, len(c.rest))
	b := slices.Clone(c.rest[:n])
	c.rest = c.rest[n:]
	return b
}

func pick[T any](c *choices, of ...T) T { return of[c.below(len(of))] }

// boundaries are numbers that arithmetic goes wrong at.
var boundaries = []uint64{
	0, 1, 2, 3, 100, 1000, 5000, math.MaxUint64, math.MaxUint64 - 1, 1 << 31, 1<<31 - 1, 1 << 32, 1<<63 - 1, 1 << 63,
	1<<63 + 1,
	9_000_000_000, 9_000_000_000_000, 1<<31 + 1<<63,
}

// words are names and keys that meet each other.
var words = []string{
	"a", "a/b", "a/", "jobs", "jobs/1", "jobs/1/2", "x", "elect", "_coord/", "_coord/elections/x/leader",
	"_coord/semaphores/s/limit",
	"_coord/semaphores/s/tally", "_coord/rwlocks/rw/tally", "_coord/barriers/b/state", "_coord/counters/c",
	"_coord/asks/a/1", "s", "rw", "b", "c",
	"", "/", "\x00", "\xff\xfe", "é", "a/\xff", "a/7fffffffffffffff", "a/-8000000000000000", "a/0", "zz", "{}", "pay",
}

// told remembers what members answered, so that later requests can name what there is: ids, tokens, revisions, keys.
type told struct {
	mu       sync.Mutex
	numbers  []uint64
	texts    []string
	grants   []toldGrant
	reserved []string // keys below the reserved prefix
}

// toldGrant is an entry of a queue: what requests that release or guard name.
type toldGrant struct {
	name, key string
	token     int64
}

const maxSeen = 256

func remember[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	if len(list) >= maxSeen {
		list = list[1:]
	}
	return append(list, v)
}

// learn notes all numbers and texts of a message.
func (s *told) learn(m proto.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.walk(m.ProtoReflect(), 0)
}

func (s *told) walk(m protoreflect.Message, depth int) {
	if e, ok := m.Interface().(*coordv1.AcquiredEntry); ok && e.Token != 0 {
		s.grants = remember(s.grants, toldGrant{e.Name, string(e.Key), e.Token})
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case depth > 6 || f.IsMap():
		case f.IsList():
			for i := range min(v.List().Len(), 4) {
				s.value(f, v.List().Get(i), depth)
			}
		default:
			s.value(f, v, depth)
		}
		return true
	})
}

func (s *told) value(f protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch f.Kind() {
	case protoreflect.Int64Kind:
		s.numbers = remember(s.numbers, uint64(v.Int()))
	case protoreflect.Uint64Kind:
		s.numbers = remember(s.numbers, v.Uint())
	case protoreflect.StringKind:
		if text := v.String(); len(text) < 200 {
			s.texts = remember(s.texts, text)
		}
	case protoreflect.BytesKind:
		if text := v.Bytes(); len(text) < 200 {
			s.texts = remember(s.texts, string(text))
		}
	case protoreflect.MessageKind:
		s.walk(v.Message(), depth+1)
	}
}

func (s *told) number(c *choices) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.below(3) == 0:
		return uint64(c.below(3))
	case len(s.numbers) > 0 && c.oneIn(2):
		return s.numbers[c.below(len(s.numbers))] + pick(c, uint64(0), 0, 0, 0, 1, math.MaxUint64)
	}
	return pick(c, boundaries...)
}

func (s *told) text(c *choices) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.oneIn(2):
		return pick(c, c.focus...)
	case len(s.texts) > 0 && c.oneIn(2):
		return s.texts[c.below(len(s.texts))]
	case c.oneIn(40):
		return string(make([]byte, pick(c, 65, 257, 1025, 4097, 1<<16, 1<<20)))
	case c.oneIn(20):
		return string(c.bytes(c.below(24)))
	}
	return pick(c, words...)
}

// forge fills a message with what a hostile client might say.
func (s *told) forge(c *choices, m proto.Message) proto.Message {
	if r, ok := m.(*coordv1.Request); ok {
		return s.request(c, r)
	}
	s.fill(c, m.ProtoReflect(), 0)
	return m
}

func (s *told) fill(c *choices, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if c.over() || c.oneIn(4) || depth > 5 {
			continue
		}
		switch {
		case f.IsMap():
			for range pick(c, 0, 0, 0, 0, 0, 1, 2) {
				m.Mutable(f).Map().Set(s.scalar(c, f.MapKey()).MapKey(),
					s.single(c, f.MapValue(), func() protoreflect.Value {
						return m.Mutable(f).Map().NewValue()
					}, depth))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range pick(c, 0, 1, 1, 2, 3) {
				list.Append(s.single(c, f, list.NewElement, depth))
			}
		default:
			m.Set(f, s.single(c, f, func() protoreflect.Value { return m.NewField(f) }, depth))
		}
	}
}

func (s *told) single(
	c *choices, f protoreflect.FieldDescriptor, make func() protoreflect.Value, depth int,
) protoreflect.Value {
	if f.Kind() != protoreflect.MessageKind {
		return s.scalar(c, f)
	}
	v := make()
	switch m := v.Message().Interface().(type) {
	case *coordv1.Request:
		s.request(c, m)
	case *coordv1.Guard:
		s.guard(c, m)
	default:
		s.fill(c, v.Message(), depth+1)
	}
	return v
}

// usual are numbers that fields with such names mostly have, so that more than the first check of a request is reached.
var usual = map[protoreflect.Name][]uint64{
	"linger_ms": {0, 0, 0, 50}, "ttl_ms": {500, 2000}, "TTL": {1, 5}, "priority": {0, 1, 2}, "permits": {1, 1, 2},
	"limit": {1, 2, 3}, "parties": {1, 2},
	"lease": {0, 0, 0, 1}, "count": {1, 2}, "delta": {1, math.MaxUint64}, "number": {1}, "size": {1, 2},
	"expected_revision": {0}, "revision": {0},
	"min_mod_revision": {0}, "max_mod_revision": {0}, "min_create_revision": {0}, "max_create_revision": {0},
}

func (s *told) scalar(c *choices, f protoreflect.FieldDescriptor) protoreflect.Value {
	if values := usual[f.Name()]; len(values) > 0 && c.below(4) > 0 {
		switch v := values[c.below(len(values))]; f.Kind() {
		case protoreflect.Int64Kind:
			return protoreflect.ValueOfInt64(int64(v))
		case protoreflect.Uint64Kind:
			return protoreflect.ValueOfUint64(v)
		}
	}
	switch f.Name() {
	case "owner_id", "owner", "host", "process":
		if c.below(8) > 0 {
			return protoreflect.ValueOfString(pick(c, "", "", "o"))
		}
	case "name", "key":
		if c.below(4) > 0 {
			return text(f, pick(c, c.focus...))
		}
	}
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(c.oneIn(5))
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		if c.oneIn(10) {
			return protoreflect.ValueOfEnum(pick(c, protoreflect.EnumNumber(-1), 99, math.MaxInt32, math.MinInt32))
		}
		return protoreflect.ValueOfEnum(values.Get(c.below(values.Len())).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(s.number(c)))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(s.number(c)))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(s.number(c)))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(s.number(c))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(pick(c, 0, float32(math.Inf(1)), float32(math.NaN())))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(pick(c, 0, math.Inf(-1), math.NaN()))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(valid(s.text(c)))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(s.text(c)))
	}
	panic(fmt.Sprintf("no value of kind %v", f.Kind()))
}

// text is a value of a field of texts.
func text(f protoreflect.FieldDescriptor, value string) protoreflect.Value {
	if f.Kind() == protoreflect.BytesKind {
		return protoreflect.ValueOfBytes([]byte(value))
	}
	return protoreflect.ValueOfString(valid(value))
}

// valid is text as a string of protobuf can be sent.
func valid(text string) string { return string([]rune(text)) }

// bodies are the messages of the requests on the native stream.
var bodies = map[coordv1.Kind]proto.Message{
	coordv1.Kind_KIND_PUT: &pb.PutRequest{}, coordv1.Kind_KIND_DELETE_RANGE: &pb.DeleteRangeRequest{},
	coordv1.Kind_KIND_TXN:         &pb.TxnRequest{},
	coordv1.Kind_KIND_LEASE_GRANT: &pb.LeaseGrantRequest{}, coordv1.Kind_KIND_LEASE_REVOKE: &pb.LeaseRevokeRequest{},
	coordv1.Kind_KIND_WITHDRAW: &coordv1.Withdraw{}, coordv1.Kind_KIND_ACQUIRE: &coordv1.Acquire{},
	coordv1.Kind_KIND_RELEASE:  &coordv1.Release{},
	coordv1.Kind_KIND_CAMPAIGN: &coordv1.Campaign{}, coordv1.Kind_KIND_PROCLAIM: &coordv1.Proclaim{},
	coordv1.Kind_KIND_TRANSFER:    &coordv1.Transfer{},
	coordv1.Kind_KIND_ASK_RELEASE: &coordv1.AskRelease{}, coordv1.Kind_KIND_RW_ACQUIRE: &coordv1.RWAcquire{},
	coordv1.Kind_KIND_RW_DOWNGRADE:      &coordv1.RWDowngrade{},
	coordv1.Kind_KIND_SEMAPHORE_ACQUIRE: &coordv1.SemaphoreAcquire{},
	coordv1.Kind_KIND_SEMAPHORE_RESIZE:  &coordv1.SemaphoreResize{},
	coordv1.Kind_KIND_BARRIER_ENTER:     &coordv1.BarrierEnter{},
	coordv1.Kind_KIND_COUNTER_ADD:       &coordv1.CounterAdd{}, coordv1.Kind_KIND_COUNTER_SET: &coordv1.CounterSet{},
	coordv1.Kind_KIND_SEQUENCE_NEXT: &coordv1.SequenceNext{}, coordv1.Kind_KIND_LATCH_SET: &coordv1.LatchSet{},
	coordv1.Kind_KIND_LATCH_COUNT_DOWN: &coordv1.LatchCountDown{}, coordv1.Kind_KIND_GATE_CLOSE: &coordv1.GateClose{},
	coordv1.Kind_KIND_GATE_OPEN: &coordv1.GateOpen{}, coordv1.Kind_KIND_GROUP_JOIN: &coordv1.GroupJoin{},
	coordv1.Kind_KIND_GROUP_UPDATE: &coordv1.GroupUpdate{}, coordv1.Kind_KIND_GROUP_LEAVE: &coordv1.GroupLeave{},
	coordv1.Kind_KIND_SESSION_OPEN: &coordv1.SessionOpen{}, coordv1.Kind_KIND_SESSION_ATTACH: &coordv1.SessionAttach{},
	coordv1.Kind_KIND_SESSION_END: &coordv1.SessionEnd{}, coordv1.Kind_KIND_RANGE: &pb.RangeRequest{},
	coordv1.Kind_KIND_READ_TXN:           &pb.TxnRequest{},
	coordv1.Kind_KIND_COMPACT:            &pb.CompactionRequest{},
	coordv1.Kind_KIND_LEASE_TIME_TO_LIVE: &pb.LeaseTimeToLiveRequest{},
	coordv1.Kind_KIND_LEASE_LEASES:       &pb.LeaseLeasesRequest{},
	coordv1.Kind_KIND_CHECK_TOKEN:        &coordv1.CheckTokenRequest{},
	coordv1.Kind_KIND_DESCRIBE:           &coordv1.DescribeRequest{},
	coordv1.Kind_KIND_LEADER:             &coordv1.LeaderRequest{},
}

// kinds are the keys of bodies, in order; inSession those of requests in a session.
var kinds, inSession = func() (all, in []coordv1.Kind) {
	for k := range bodies {
		all = append(all, k)
		if k < coordv1.Kind_KIND_SESSION_OPEN {
			in = append(in, k)
		}
	}
	slices.Sort(all)
	slices.Sort(in)
	return all, in
}()

// request fills a request of the native stream: mostly one whose body fits its kind.
func (s *told) request(c *choices, r *coordv1.Request) proto.Message {
	r.Sequence, r.Kind = s.number(c), pick(c, inSession...)
	if c.oneIn(8) {
		r.Kind = pick(c, kinds...)
	}
	r.Body = s.body(c, r.Kind)
	if c.oneIn(50) {
		r.Kind = coordv1.Kind(s.number(c))
	}
	if c.oneIn(16) {
		g := &coordv1.Guard{}
		s.guard(c, g)
		r.Guards = append(r.Guards, g)
	}
	return r
}

// guard names a grant that there was, or none.
func (s *told) guard(c *choices, g *coordv1.Guard) {
	if c.oneIn(4) {
		s.fill(c, g.ProtoReflect(), 0)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.grants); n > 0 {
		of := s.grants[max(0, n-1-c.below(8))]
		fields := g.ProtoReflect().Descriptor().Fields()
		g.ProtoReflect().Set(fields.ByName("name"), text(fields.ByName("name"), of.name))
		g.ProtoReflect().Set(fields.ByName("key"), text(fields.ByName("key"), of.key))
		g.Token = of.token
	}
}

func (s *told) body(c *choices, kind coordv1.Kind) []byte {
	if c.oneIn(30) {
		return c.bytes(16)
	}
	m := bodies[kind].ProtoReflect().New()
	s.fill(c, m, 0)
	body, _ := proto.Marshal(m.Interface())
	return body
}

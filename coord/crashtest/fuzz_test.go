package crashtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	_ "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coord-dev/coord/client"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// maxMemory is what a member may have resident whatever it is asked, in bytes.
const maxMemory = 512 << 20

// FuzzCluster says to three real members whatever clients, peers and packets can say: its input is a program of hostile
// acts. After each all members must be up, serve a write, be small, and have the same state. Its seeds are random
// programs; what breaks something later is kept in testdata.
//
// Go's fuzzer does not see into the members, so that it learns nothing from what it covers: TestHostileRandom runs more
// programs.
func FuzzCluster(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		f.Add(program(rng))
	}
	long := &outlasting{TB: f}
	f.Cleanup(long.end)
	c := fuzzCluster(long)
	f.Fuzz(func(t *testing.T, acts []byte) {
		c.run(acts)
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
	})
}

// outlasting stands for the target while its function runs, in which none of the target's own methods may be called:
// what is started there lives on for the next input.
type outlasting struct {
	testing.TB
	ends []func()
}

func (o *outlasting) Helper()                           {}
func (o *outlasting) Cleanup(fn func())                 { o.ends = append(o.ends, fn) }
func (o *outlasting) Failed() bool                      { return false }
func (o *outlasting) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (o *outlasting) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (o *outlasting) TempDir() string {
	dir, err := os.MkdirTemp("", "coord-fuzz-")
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (o *outlasting) end() {
	for _, fn := range slices.Backward(o.ends) {
		fn()
	}
}

// TestHostileRandom runs random programs of FuzzCluster for COORD_FUZZ_TIME (a minute; 5 s with -short), from
// COORD_FUZZ_SEED, several at once. What it ran is written to a file for each, whose name it prints when a member
// breaks.
func TestHostileRandom(t *testing.T) {
	length, seed := time.Minute, rand.Uint64()
	if testing.Short() {
		length = 5 * time.Second
	}
	if given := os.Getenv("COORD_FUZZ_TIME"); given != "" {
		var err error
		if length, err = time.ParseDuration(given); err != nil {
			t.Fatalf("COORD_FUZZ_TIME: %v", err)
		}
	}
	if given := os.Getenv("COORD_FUZZ_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("COORD_FUZZ_SEED: %v", err)
		}
	}
	t.Logf("COORD_FUZZ_SEED=%d", seed)
	c := fuzzCluster(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds := 0
	for begin := time.Now(); time.Since(begin) < length; rounds++ {
		c.round(rng)
		if err := c.check(); err != nil {
			t.Fatalf("round %d: %v\nthe programs are in %s", rounds, err, c.keep(t))
		}
	}
	for _, what := range slices.Sorted(maps.Keys(c.acts)) {
		t.Logf("%6d %s, %d answered", c.acts[what], what, c.answered[what])
	}
	t.Logf("%d rounds, at most %d MB in a member", rounds, c.largest>>20)
}

// TestBodiesOfAllKinds: a kind that is added is fuzzed.
func TestBodiesOfAllKinds(t *testing.T) {
	for number, name := range coordv1.Kind_name {
		if number != 0 && bodies[coordv1.Kind(number)] == nil {
			t.Errorf("no body is made for %s", name)
		}
	}
}

// program is a random one.
func program(rng *rand.Rand) []byte {
	acts := make([]byte, 200+rng.IntN(8000))
	for i := range acts {
		acts[i] = byte(rng.Uint32())
	}
	return acts
}

// fuzzed is the cluster that is told things.
type fuzzed struct {
	*cluster
	*told
	conns   []*grpc.ClientConn
	methods []method
	dns     []string

	count struct {
		sync.Mutex
		rounds int
	}
	acts, answered map[string]int // by what was done
	largest        int64
	last           [][]byte // the programs of the last rounds
}

// method is an RPC of a service of coordd.
type method struct {
	name             string
	in, out          protoreflect.MessageType
	byClient, stream bool // the client sends many; the server does
}

// fuzzCluster starts three members that answer DNS, too.
func fuzzCluster(t testing.TB) *fuzzed {
	c := layOut(t, 3)
	program := unchecked(t)
	f := &fuzzed{
		cluster: c, told: &told{}, dns: freeAddrs(t, 3), acts: map[string]int{}, answered: map[string]int{},
		methods: allMethods(t),
	}
	for i, m := range c.members {
		m.program = program
		m.flags = append(m.flags, "--listen-dns="+f.dns[i], "--quota-backend-bytes="+strconv.Itoa(64<<20))
	}
	c.start()
	for _, m := range c.members {
		conn, err := grpc.NewClient(m.client, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		f.conns = append(f.conns, conn)
	}
	return f
}

// exempt are methods that a cluster does not survive by design, as it would lose its members; and that of alarms, of
// which there would be one all the time.
var exempt = map[string]bool{
	"/etcdserverpb.Maintenance/Alarm": true,
	"/etcdserverpb.Cluster/MemberAdd": true, "/etcdserverpb.Cluster/MemberRemove": true,
	"/etcdserverpb.Cluster/MemberUpdate": true, "/etcdserverpb.Cluster/MemberPromote": true,
}

// allMethods are those of all services of coordd that are compiled into this program, in the order of their names.
func allMethods(t testing.TB) []method {
	var all []method
	for _, name := range []protoreflect.FullName{
		"coord.v1.Barrier", "coord.v1.Config", "coord.v1.Counter", "coord.v1.Election", "coord.v1.Gate",
		"coord.v1.Group", "coord.v1.Introspection",
		"coord.v1.Latch", "coord.v1.Lock", "coord.v1.Registry", "coord.v1.RWLock", "coord.v1.Semaphore",
		"coord.v1.Sequence", "coord.v1.Stream",
		"etcdserverpb.Auth", "etcdserverpb.Cluster", "etcdserverpb.KV", "etcdserverpb.Lease",
		"etcdserverpb.Maintenance", "etcdserverpb.Watch",
		"grpc.health.v1.Health", "v3electionpb.Election", "v3lockpb.Lock",
	} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			if name == "coord.v1.Registry" {
				continue // the registry has no service of its own
			}
			t.Fatalf("service %s: %v", name, err)
		}
		list := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range list.Len() {
			m := list.Get(i)
			path := fmt.Sprintf("/%s/%s", name, m.Name())
			if !exempt[path] {
				all = append(all, method{path, messageType(t, m.Input()), messageType(t, m.Output()),
					m.IsStreamingClient(), m.IsStreamingServer()})
			}
		}
	}
	return all
}

func messageType(t testing.TB, d protoreflect.MessageDescriptor) protoreflect.MessageType {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return mt
}

// round runs several random programs at once.
func (f *fuzzed) round(rng *rand.Rand) {
	f.last = nil
	var running sync.WaitGroup
	for range 24 {
		acts := program(rng)
		f.last = append(f.last, acts)
		running.Go(func() { f.run(acts) })
	}
	running.Wait()
}

// keep writes the programs of the last round to files that outlive the test, in the form of seeds.
func (f *fuzzed) keep(t testing.TB) string {
	dir, err := os.MkdirTemp("", "coord-fuzz-")
	for i, acts := range f.last {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprint("program-", i)),
				fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", acts), 0o644)
		}
	}
	if err != nil {
		t.Error(err)
	}
	return dir
}

// run performs a program.
func (f *fuzzed) run(acts []byte) {
	c := choicesOf(acts)
	for n := 0; !c.over() && n < 60; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
		what, ok := f.act(ctx, c)
		cancel()
		f.tell(what, ok)
	}
}

// tell counts what was done.
func (f *fuzzed) tell(what string, answered bool) {
	f.count.Lock()
	defer f.count.Unlock()
	f.acts[what]++
	if answered {
		f.answered[what]++
	}
}

// act does one hostile thing, and reports what, and whether somebody answered.
func (f *fuzzed) act(ctx context.Context, c *choices) (what string, answered bool) {
	at := c.below(3)
	if c.forges && c.oneIn(2) {
		return "forged rows", f.forgeRows(ctx, c, f.conns[at])
	}
	switch c.below(17) {
	case 0, 1, 2, 3, 4, 5:
		return f.call(ctx, c, f.conns[at])
	case 6, 7, 8, 9:
		return "session", f.session(ctx, c, f.conns[at])
	case 10:
		return "frames", f.frames(ctx, c, f.conns[at])
	case 11:
		return "DNS", f.askDNS(ctx, c, f.dns[at])
	case 12:
		return "peer port", sayTo(ctx, f.members[at].peer, peerBytes(c))
	case 13:
		return "introduction", f.post(ctx, c, "http://"+f.members[at].peer+"/coord/introduce")
	case 14:
		return "page", f.page(ctx, c, f.members[at])
	case 15:
		return "forged rows", f.forgeRows(ctx, c, f.conns[at])
	}
	if c.below(4) > 0 {
		return f.call(ctx, c, f.conns[at])
	}
	return "alarm", f.alarm(ctx, c, f.conns[at])
}

// call calls any method of any service with anything.
func (f *fuzzed) call(ctx context.Context, c *choices, conn *grpc.ClientConn) (name string, answered bool) {
	m := pick(c, f.methods...)
	if !m.byClient && !m.stream {
		out := m.out.New().Interface()
		err := conn.Invoke(ctx, m.name, f.forge(c, m.in.New().Interface()), out)
		f.learn(out)
		return m.name, err == nil
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.byClient, ServerStreams: m.stream}, m.name)
	if err != nil {
		return m.name, false
	}
	sends := 1
	if m.byClient {
		sends = 1 + c.below(4)
	}
	for range sends {
		if err = s.SendMsg(f.forge(c, m.in.New().Interface())); err != nil {
			break
		}
	}
	if c.oneIn(2) {
		_ = s.CloseSend()
	}
	for range 1 + c.below(3) {
		out := m.out.New().Interface()
		if err := s.RecvMsg(out); err != nil {
			break
		}
		f.learn(out)
		answered = true
	}
	return m.name, answered
}

// session opens a session on the native stream and sends requests, most of them with numbers that fit.
func (f *fuzzed) session(ctx context.Context, c *choices, conn *grpc.ClientConn) bool {
	s, err := coordv1.NewStreamClient(conn).Open(ctx)
	if err != nil {
		return false
	}
	open, _ := proto.Marshal(&coordv1.SessionOpen{TtlMs: pick(c, int64(500), 1000, 2000, 60_000)})
	_ = s.Send(&coordv1.ClientFrame{
		Hello: &coordv1.Hello{Protocol: 1, Client: "fuzz"},
		Batches: []*coordv1.Batch{{
			Requests: []*coordv1.Request{{Sequence: 1, Kind: coordv1.Kind_KIND_SESSION_OPEN, Body: open}},
		}},
	})
	opened := &coordv1.SessionOpened{}
	for opened.Id == 0 {
		frame, err := s.Recv()
		if err != nil {
			return false
		}
		for _, r := range frame.Responses {
			_ = proto.Unmarshal(r.GetOutcome().GetResponse(), opened)
		}
		f.learn(frame)
	}
	f.learn(opened)
	sequence := uint64(0)
	for range 1 + c.below(6) {
		batch := &coordv1.Batch{Session: opened.Id, Acknowledged: pick(c, 0, sequence)}
		if c.oneIn(16) {
			batch.Acknowledged = pick(c, boundaries...)
		}
		for range 1 + c.below(4) {
			sequence++
			r := f.request(c, &coordv1.Request{}).(*coordv1.Request)
			if !c.oneIn(8) {
				r.Sequence = sequence
			}
			batch.Requests = append(batch.Requests, r)
		}
		if s.Send(&coordv1.ClientFrame{
			Batches: []*coordv1.Batch{batch}, Heartbeat: pick(c, 0, 0, f.number(c)),
		}) != nil {
			return true
		}
		answered := 0
		for answered < len(batch.Requests) {
			frame, err := s.Recv()
			if err != nil {
				return true
			}
			answered += len(frame.Responses)
			f.learnOutcomes(frame, batch.Requests)
		}
		if c.forges {
			f.tell("forged rows", f.forgeRows(ctx, c, conn))
		}
	}
	if !c.oneIn(4) {
		end, _ := proto.Marshal(&coordv1.SessionEnd{Session: opened.Id, Created: opened.Created})
		_ = s.Send(&coordv1.ClientFrame{
			Batches: []*coordv1.Batch{{
				Requests: []*coordv1.Request{{Sequence: 2, Kind: coordv1.Kind_KIND_SESSION_END, Body: end}},
			}},
		})
		_, _ = s.Recv()
	}
	return true
}

// learnOutcomes notes what requests came to, most of all the tokens and keys of what was granted.
func (f *fuzzed) learnOutcomes(frame *coordv1.ServerFrame, requests []*coordv1.Request) {
	f.learn(frame)
	for _, r := range frame.Responses {
		for _, q := range requests {
			if q.Sequence != r.Sequence {
				continue
			}
			refusal := r.GetOutcome().GetRefusal()
			if bodies[q.Kind] != nil {
				f.tell(q.Kind.String(), refusal == nil)
			}
			if out := (&coordv1.Acquired{}); refusal == nil && proto.Unmarshal(r.GetOutcome().GetResponse(),
				out) == nil {
				f.learn(out)
			}
		}
	}
}

// frames sends bytes that are hardly frames.
func (f *fuzzed) frames(ctx context.Context, c *choices, conn *grpc.ClientConn) bool {
	s, err := coordv1.NewStreamClient(conn).Open(ctx)
	if err != nil {
		return false
	}
	if c.oneIn(2) {
		_ = s.Send(&coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}})
	}
	for range 1 + c.below(5) {
		frame := f.forge(c, &coordv1.ClientFrame{}).(*coordv1.ClientFrame)
		frame.ProtoReflect().SetUnknown(c.bytes(c.below(12)))
		if s.Send(frame) != nil {
			break
		}
	}
	_, err = s.Recv()
	return err == nil
}

// alarm raises one, mostly that of space, which makes writes fail in the middle of things; goes on with a session, and
// lowers it again, or all of that id.
func (f *fuzzed) alarm(ctx context.Context, c *choices, conn *grpc.ClientConn) bool {
	client := pb.NewMaintenanceClient(conn)
	r := &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, Alarm: pick(c, pb.AlarmType_NOSPACE, 1, 1, 1, 2, 0, 99),
		MemberID: pick(c, 0, f.number(c)),
	}
	_, err := client.Alarm(ctx, r)
	f.session(ctx, c, conn)
	r.Action = pb.AlarmRequest_DEACTIVATE
	_, _ = client.Alarm(context.WithoutCancel(ctx), r)
	return err == nil
}

// askDNS sends a packet that is a query, was one, or never was.
func (f *fuzzed) askDNS(ctx context.Context, c *choices, addr string) bool {
	q := new(dns.Msg)
	q.SetQuestion(pick(c, "pay.service.coord.", "x.pay.service.coord.", "7f000001.addr.coord.", ".", "coord.",
		strings.Repeat("a.", 100)+"coord."), pick(c, dns.TypeA, dns.TypeSRV, dns.TypeTXT, dns.TypeANY, 65535))
	packet, err := q.Pack()
	if err != nil {
		packet = make([]byte, 12)
	}
	for range c.below(4) { // of the header, mostly: counts of questions and records that are not there
		packet[c.below(min(len(packet), 14))] = byte(c.below(256))
	}
	packet = packet[:len(packet)-c.below(len(packet))]
	if c.oneIn(3) {
		return sayTo(ctx, addr, append(binary.BigEndian.AppendUint16(nil, uint16(pick(c, len(packet), 0, 65535))),
			packet...))
	}
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
	_, _ = conn.Write(packet)
	_, err = conn.Read(make([]byte, 4096))
	return err == nil
}

// peerBytes begins like the connection of another member, for a while.
func peerBytes(c *choices) []byte {
	b := pick(c, []byte{0xc0, 'C', 'R', 1}, []byte{0xc0, 'C', 'R', 2}, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		[]byte{0x16, 3, 1}, nil)
	b = bytes.Clone(b)
	for range c.below(4) {
		payload := c.bytes(c.below(80))
		header := append([]byte{byte(c.below(10))}, binary.LittleEndian.AppendUint32(nil,
			pick(c, uint32(len(payload)), uint32(len(payload)), 0, 1<<31, 1<<27))...)
		sum := crc32.Update(crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli)),
			crc32.MakeTable(crc32.Castagnoli), payload)
		b = append(append(append(b, header...), binary.LittleEndian.AppendUint32(nil, sum)...), payload...)
	}
	return append(b, c.bytes(c.below(20))...)
}

// sayTo sends bytes over TCP and waits a moment for an answer.
func sayTo(ctx context.Context, addr string, data []byte) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
	_, _ = conn.Write(data)
	_, err = conn.Read(make([]byte, 4096))
	return err == nil
}

// post introduces somebody to a member.
func (f *fuzzed) post(ctx context.Context, c *choices, url string) bool {
	body := fmt.Sprintf(`{"cluster_id":%q,"member_id":%q,"incarnation":%q,"fresh":%v,"record":%v}`,
		strconv.FormatUint(f.number(c), 16), strconv.FormatUint(f.number(c), 16), strconv.FormatUint(f.number(c), 16),
		c.oneIn(2), c.oneIn(2))
	body = body[:len(body)-c.below(4)*c.below(len(body)/4)]
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return false
	}
	return drain(http.DefaultClient.Do(r))
}

// page asks for a page over HTTP.
func (f *fuzzed) page(ctx context.Context, c *choices, m *member) bool {
	path := pick(c, "/health", "/version", "/metrics", "/livez", "/readyz", "/members", "/v3/kv/range", "/debug/pprof/",
		"/%00", "/coord/introduce")
	query := pick(c, "", "?serializable=true", "?exclude=NOSPACE", "?verbose", "?"+strings.Repeat("exclude=a&", 500))
	r, err := http.NewRequestWithContext(ctx, pick(c, http.MethodGet, http.MethodPost, http.MethodPut, http.MethodHead),
		"http://"+pick(c, m.client, m.peer)+path+query, strings.NewReader(f.text(c)))
	if err != nil {
		return false
	}
	return drain(http.DefaultClient.Do(r))
}

func drain(resp *http.Response, err error) bool {
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return true
}

// check says what is broken: after a program all members must be up, small, able to write, and have the same state.
// Every now and then it kills one first and starts it again, so that it applies again what it was told.
func (f *fuzzed) check() error {
	f.count.rounds++
	if f.count.rounds%5 == 0 {
		m := f.members[f.count.rounds/5%3]
		if m.running() {
			m.kill()
			m.start(f.t)
		}
	}
	for _, m := range f.members {
		if err := f.checkMember(m); err != nil {
			return fmt.Errorf("%s: %w; its log ends:\n%s", m.name, err, m.tail(5))
		}
	}
	return f.sameState()
}

func (f *fuzzed) checkMember(m *member) error {
	cli := dial(f.t, m.client)
	defer cli.Close()
	var err error
	for begin := time.Now(); time.Since(begin) < patience && m.running(); time.Sleep(20 * time.Millisecond) {
		if err = f.write(cli); err == nil {
			break
		}
	}
	if !m.running() {
		return fmt.Errorf("is gone")
	}
	if err != nil {
		return fmt.Errorf("does not write: %w", err)
	}
	if err := f.othersGoOn(m); err != nil {
		return err
	}
	memory := m.resident()
	f.largest = max(f.largest, memory)
	if memory > maxMemory {
		return fmt.Errorf("has %d MB", memory>>20)
	}
	return nil
}

// othersGoOn says whether who uses names that no program knows is served at a member, and whether one of its goroutines
// panicked.
func (f *fuzzed) othersGoOn(m *member) error {
	c, err := client.New(client.Config{Endpoints: []string{m.client}})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for try := 0; ; try++ { // a machine that stands still for longer than a session lives is nobody's fault
		err := untouched(ctx, c, fmt.Sprintf("untouched %d/%d %s", f.count.rounds, try, m.name))
		if err == nil {
			break
		}
		if ctx.Err() != nil || !errors.Is(err, client.ErrLost) && !errors.Is(err, client.ErrOutcomeUnknown) {
			return fmt.Errorf("does not serve others: %w", err)
		}
	}
	if panics := recovered.FindString(metrics(f.t, m.client)); panics != "" {
		return fmt.Errorf("recovered from a panic: %s", panics)
	}
	return nil
}

var recovered = regexp.MustCompile(`coord_recovered_panics_total\{.*`)

// write writes a key, after it has lowered the alarms that a program left.
func (f *fuzzed) write(cli *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := cli.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return err
	}
	_, err := cli.Put(ctx, "alive", "yes")
	return err
}

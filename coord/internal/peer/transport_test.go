package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"go.uber.org/goleak"

	"github.com/coord-dev/coord/coord/coordtest/loopback"
	"github.com/coord-dev/coord/coord/internal/handshake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// end is one transport under test and what arrived at it.
type end struct {
	*Transport
	id      uint64
	batches chan pb.MessageBatch
	chunks  chan pb.Chunk
	refused chan *handshake.RefusedError
}

func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// identity is that of a member, at its first start.
func identity(id uint64) handshake.Identity {
	return handshake.Identity{Cluster: 7, Member: id, Incarnation: incarnation(id), Boot: 1, Start: id}
}

// incarnation is made up of a number.
func incarnation(n uint64) handshake.Incarnation {
	i, err := handshake.ParseIncarnation(fmt.Sprintf("%064x", n))
	if err != nil {
		panic(err)
	}
	return i
}

func newEnd(t testing.TB, id uint64, l net.Listener, edit func(*Options)) *end {
	t.Helper()
	e := &end{
		id: id, batches: make(chan pb.MessageBatch, 1000), chunks: make(chan pb.Chunk, 1000),
		refused: make(chan *handshake.RefusedError, 1000),
	}
	opt := Options{
		Self: identity(id), Listeners: []net.Listener{l}, Book: NewBook(),
		Refused: func(r *handshake.RefusedError) { e.refused <- r },
	}
	if edit != nil {
		edit(&opt)
	}
	e.Transport = NewFactory(opt).Create(config.NodeHostConfig{},
		func(b pb.MessageBatch) { e.batches <- b },
		func(c pb.Chunk) bool { e.chunks <- c; return true }).(*Transport)
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func (e *end) addr() string { return e.Addrs()[0].String() }

// knows puts the other into e's book.
func (e *end) knows(other *end) { e.opt.Book.Set(other.id, []string{other.addr()}) }

func (e *end) conn(t testing.TB, to uint64) raftio.IConnection {
	t.Helper()
	c, err := e.GetConnection(context.Background(), Target(to))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func batchFrom(from, to, index uint64, payload int) pb.MessageBatch {
	return pb.MessageBatch{BinVer: raftio.TransportBinVersion, DeploymentId: 1, SourceAddress: Target(from),
		Requests: []pb.Message{{
			Type: pb.Replicate, From: from, To: to, ShardID: 1, Term: 1, LogIndex: index, LogTerm: min(index, 1),
			Entries: []pb.Entry{{
				Index: index + 1, Term: 1, Type: pb.EncodedEntry, Key: 1, ClientID: 1, Cmd: make([]byte, 2+payload),
			}},
		}}}
}

func receive[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %v", what, patience)
		panic("unreachable")
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for stop := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(stop) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

func TestBatchesArrive(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	c := a.conn(t, 2)
	defer c.Close()
	for i, size := range []int{10, 3 << 20, 0} {
		if err := c.SendMessageBatch(batchFrom(1, 2, uint64(i), size)); err != nil {
			t.Fatal(err)
		}
		got := receive(t, b.batches, "batch")
		if got.SourceAddress != "" || len(got.Requests) != 1 || len(got.Requests[0].Entries[0].Cmd) != 2+size {
			t.Fatalf("batch %d arrived as %v", i, got.Requests[0].LogIndex)
		}
	}
	s := a.Stats()[0]
	if !s.Connected || s.Sent != 3 || s.Dropped != 0 || s.SentBytes < 3<<20 {
		t.Errorf("sender's counters: %+v", s)
	}
	eventually(t, "received bytes", func() bool { return b.statsOf(1).ReceivedBytes == s.SentBytes })
}

// A peer that does not answer is no error and takes no time; when it comes up the
// link finds it by itself.
func TestUnreachablePeer(t *testing.T) {
	addrs, err := loopback.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	addr := addrs[0]
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	a.opt.Book.Set(2, []string{addr})
	c := a.conn(t, 2)
	defer c.Close()
	eventually(t, "failed attempt", func() bool { return a.link(2).tried.Load() })
	start := time.Now()
	for i := range 1000 {
		if err := c.SendMessageBatch(batchFrom(1, 2, uint64(i), 10)); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("1000 messages to a peer that is down took %v", d)
	}
	if s := a.Stats()[0]; s.Connected || s.Dropped != 1000 {
		t.Errorf("counters: %+v", s)
	}
	start = time.Now()
	b := newEnd(t, 2, listen(t, addr), nil)
	eventually(t, "connection", func() bool { return a.Stats()[0].Connected })
	t.Logf("connected %v after the peer came up", time.Since(start))
	_ = c.SendMessageBatch(batchFrom(1, 2, 5, 10))
	if got := receive(t, b.batches, "batch"); got.Requests[0].LogIndex != 5 {
		t.Errorf("got message %d, want 5", got.Requests[0].LogIndex)
	}
}

// The first message to a peer never tried yet waits for the connection.
func TestFirstMessageIsNotLost(t *testing.T) {
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	for range 20 {
		a := newEnd(t, 1, listen(t, "127.0.0.1:0"), func(o *Options) { o.Patience = patience })
		a.knows(b)
		c := a.conn(t, 2)
		_ = c.SendMessageBatch(batchFrom(1, 2, 1, 10))
		receive(t, b.batches, "first batch")
		c.Close()
		a.Close()
	}
}

// Raft hears of a broken link, once.
func TestBrokenLinkIsReported(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	c := a.conn(t, 2)
	defer c.Close()
	_ = c.SendMessageBatch(batchFrom(1, 2, 1, 10))
	receive(t, b.batches, "batch")
	b.Close()
	m := receive(t, a.batches, "report").Requests[0]
	if m.Type != pb.Unreachable || m.From != 2 || m.To != 1 || m.ShardID != 1 {
		t.Fatalf("reported %+v", m)
	}
	_ = c.SendMessageBatch(batchFrom(1, 2, 2, 10))
	if len(a.batches) != 0 {
		t.Errorf("reported again: %+v", <-a.batches)
	}
}

// A member's process has ended when nobody listens any more and all of its
// connections are gone, and not before.
func TestGone(t *testing.T) {
	gone := make(chan uint64, 10)
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), func(o *Options) { o.Gone = func(m uint64) { gone <- m } })
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	b.knows(a)
	eventually(t, "connections", func() bool { return a.Stats()[0].Connected && b.Stats()[0].Connected })
	nobody := listen(t, "127.0.0.1:0")
	nobody.Close()
	a.opt.Book.Set(2, []string{nobody.Addr().String()})
	eventually(t, "refused attempt", func() bool { return a.link(2).gone.Load() })
	if a.Gone(2) || len(gone) > 0 {
		t.Error("gone although its connection to us lives")
	}
	b.Close()
	if m := receive(t, gone, "word of the end"); m != 2 || !a.Gone(2) {
		t.Errorf("told that %d is gone, Gone(2) is %v", m, a.Gone(2))
	}
	b = newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	eventually(t, "return", func() bool { return !a.Gone(2) && a.Stats()[0].Connected })
}

func TestAddressChange(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	eventually(t, "connection", func() bool { return a.Stats()[0].Connected })
	b.Close()
	b = newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	eventually(t, "second connection", func() bool { s := a.Stats()[0]; return s.Connected && s.Connects == 2 })
	c := a.conn(t, 2)
	defer c.Close()
	_ = c.SendMessageBatch(batchFrom(1, 2, 1, 10))
	receive(t, b.batches, "batch at the new address")
}

// known keeps the incarnation of one member.
func known(member, n uint64) *handshake.Memory {
	m := &handshake.Memory{}
	if err := m.Record(member, incarnation(n)); err != nil {
		panic(err)
	}
	return m
}

func TestRefusals(t *testing.T) {
	no := errors.New("member 2 lost its data: remove it and add it under a new id")
	for _, tc := range []struct {
		name       string
		a, b       func(*Options)
		local      bool
		wantReason string
	}{
		{"other cluster", nil, func(o *Options) { o.Self.Cluster = 8 }, true,
			"this is a member of cluster 7, not of cluster 8"},
		{"other member", nil, func(o *Options) { o.Self.Member = 3 }, true, "this is the address of member 2, and " +
			"member 3 answered"},
		{"same member", nil, func(o *Options) { o.Self.Member = 1 }, true, "this is member 1 itself"},
		{"dialler refuses", func(o *Options) {
			o.PeerRecords = &handshake.Memory{Refuse: func(h handshake.Hello) error {
				if h.Member == 2 && h.Fingerprint == incarnation(2).Fingerprint() {
					return no
				}
				return nil
			}}
		}, nil, true, no.Error()},
		{"acceptor refuses", nil, func(o *Options) {
			o.PeerRecords = &handshake.Memory{Refuse: func(h handshake.Hello) error {
				return fmt.Errorf("no %d %s", h.Member, h.Fingerprint)
			}}
		}, false, "no 1 " + incarnation(1).String()},
		{"known as another", nil, func(o *Options) {
			o.PeerRecords = known(1, 99)
		}, false, "but was known as " + incarnation(99).String()},
		{"removed", nil, func(o *Options) {
			registry{o.Book, 1}.Remove(1, 1)
		}, false, "was removed from the cluster"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newEnd(t, 1, listen(t, "127.0.0.1:0"), tc.a)
			b := newEnd(t, 2, listen(t, "127.0.0.1:0"), tc.b)
			a.knows(b)
			r := receive(t, a.refused, "refusal")
			if r.Local != tc.local || !strings.Contains(r.Error(), tc.wantReason) {
				t.Errorf("local %v: %v; want local %v, %q", r.Local, r, tc.local, tc.wantReason)
			}
			c := a.conn(t, 2)
			defer c.Close()
			_ = c.SendMessageBatch(batchFrom(1, 2, 1, 10))
			if _, err := a.GetSnapshotConnection(context.Background(), Target(2)); err == nil {
				t.Error("snapshot connection was admitted")
			}
			if a.Stats()[0].Connected || len(b.batches) > 0 {
				t.Error("a refused peer was connected")
			}
		})
	}
}

func TestSnapshotChunks(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	if _, err := a.GetSnapshotConnection(context.Background(), Target(2)); err == nil {
		t.Fatal("connected to a member without an address")
	}
	a.knows(b)
	c, err := a.GetSnapshotConnection(context.Background(), Target(2))
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		if err := c.SendChunk(chunk(i, i == 4)); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.chunks) != 5 {
		t.Errorf("%d chunks arrived before the last was sent, want 5", len(b.chunks))
	}
	c.Close()
}

// chunk is one of a snapshot from member 1 to member 2.
func chunk(id uint64, last bool) pb.Chunk {
	c := pb.Chunk{
		BinVer: raftio.TransportBinVersion, DeploymentId: 1, From: 1, ReplicaID: 2, ShardID: 1,
		ChunkId: id, FileChunkId: id, Index: 9, OnDiskIndex: 8, Term: 1, Filepath: snapshotName(9),
		Membership: pb.Membership{ConfigChangeId: 2, Addresses: map[uint64]string{1: Target(1), 2: Target(2)}},
		Data:       make([]byte, blockSize+blockSum),
	}
	if id == 0 {
		c.Data = append(streamHeader(pb.SnapshotHeader{Version: streamVersion}), c.Data...)
		binary.LittleEndian.PutUint64(c.Data[chunkHeader:], sessionTable)
	}
	if last {
		c.ChunkCount, c.FileChunkCount = pb.LastChunkCount, pb.LastChunkCount
	}
	return c
}

func streamHeader(h pb.SnapshotHeader) []byte {
	b, encoded := make([]byte, chunkHeader), pb.MustMarshal(&h)
	binary.LittleEndian.PutUint64(b, uint64(len(encoded)))
	copy(b[8:], encoded)
	return b
}

// A snapshot counts as sent when the receiver took it, and not when the kernel has
// its last bytes.
func TestSnapshotIsSentWhenItIsTaken(t *testing.T) {
	taking, take := make(chan struct{}), make(chan bool)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	b.Transport.chunks = func(c pb.Chunk) bool {
		if c.ChunkId > 0 {
			return false // what ends the one that was not taken
		}
		taking <- struct{}{}
		return <-take
	}
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	for _, taken := range []bool{true, false} {
		c, err := a.GetSnapshotConnection(context.Background(), Target(2))
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- c.SendChunk(chunk(0, true)) }()
		<-taking
		select {
		case err := <-sent:
			t.Errorf("sent before it was taken: %v", err)
			sent <- err
		case <-time.After(200 * time.Millisecond):
		}
		take <- taken
		if err := receive(t, sent, "end of the snapshot"); (err == nil) != taken {
			t.Errorf("taken %v, sender got %v", taken, err)
		}
		c.Close()
	}
}

// Bytes that are not ours must not disturb anything but their own connection.
func TestGarbageIsCutOff(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	for what, tc := range map[string]struct {
		shake bool
		bytes []byte
	}{
		"no handshake":    {false, append(magic[:4:4], "garbage that is long enough"...)},
		"bad batch":       {true, appendFrame(nil, kindBatch, []byte("\xff\xff\xff"))},
		"wrong kind":      {true, appendFrame(nil, kindChunk, nil)},
		"short ping":      {true, appendFrame(nil, kindPing, nil)},
		"long pong":       {true, appendFrame(nil, kindPong, make([]byte, pingSize+1))},
		"other's sender":  {true, appendFrame(nil, kindBatch, pb.MustMarshal(ptr(batchFrom(1, 2, 1, 1))))},
		"other's purpose": {false, append(magic[:4:4], 1, 4, 0, 1, 1, 0, 3)},
	} {
		c, err := net.Dial("tcp", b.addr())
		if err != nil {
			t.Fatal(err)
		}
		if tc.shake {
			shake(t, c, identity(3), 2)
		}
		_, _ = c.Write(tc.bytes)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: connection stays open", what)
		}
		c.Close()
	}
	if len(b.batches) != 0 {
		t.Error("garbage was delivered")
	}
	a.knows(b)
	eventually(t, "connection", func() bool { return a.Stats()[0].Connected })
}

// shake makes c a connection of a member that nobody knows yet.
func shake(t testing.TB, c net.Conn, self handshake.Identity, wanted uint64) {
	t.Helper()
	if _, err := c.Write(magic[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := handshake.Dial(c, handshake.Party{Self: self, PeerRecords: &handshake.Memory{}}, handshake.Raft,
		wanted); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// A peer that takes no bytes any more, like a stopped process, holds up neither
// its sender for long nor the traffic with others, and is found again.
func TestStalledPeer(t *testing.T) {
	stalled := listen(t, "127.0.0.1:0") // accepts in the kernel, shakes hands below, reads nothing
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), func(o *Options) { o.IdleTimeout = 300 * time.Millisecond })
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	a.opt.Book.Set(3, []string{stalled.Addr().String()})
	c, err := stalled.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := newWire(c, patience)
	if _, err := io.ReadFull(w, make([]byte, len(magic))); err != nil {
		t.Fatal(err)
	}
	if _, err := handshake.Accept(w, handshake.Party{
		Self: identity(3), PeerRecords: &handshake.Memory{},
	}, handshake.Raft); err != nil {
		t.Fatal(err)
	}
	toStalled, toB := a.conn(t, 3), a.conn(t, 2)
	defer toStalled.Close()
	defer toB.Close()
	start := time.Now()
	for range 20 {
		_ = toStalled.SendMessageBatch(batchFrom(1, 3, 1, 4<<20))
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("20 batches to a stalled peer took %v", d)
	}
	_ = toB.SendMessageBatch(batchFrom(1, 2, 1, 10))
	receive(t, b.batches, "batch at the other peer")
	if m := receive(t, a.batches, "report").Requests[0]; m.Type != pb.Unreachable || m.From != 3 {
		t.Errorf("reported %+v", m)
	}
	stalled.Close()
	again := newEnd(t, 3, listen(t, stalled.Addr().String()), nil)
	eventually(t, "connection", func() bool { return a.statsOf(3).Connected })
	_ = toStalled.SendMessageBatch(batchFrom(1, 3, 2, 10))
	receive(t, again.batches, "batch after the stall")
}

// Close does not wait for a peer that takes no bytes.
func TestCloseBesideStalledPeer(t *testing.T) {
	stalled := listen(t, "127.0.0.1:0")
	defer stalled.Close()
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), func(o *Options) { o.IdleTimeout = time.Hour })
	a.opt.Book.Set(3, []string{stalled.Addr().String()})
	c, err := stalled.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := newWire(c, patience)
	_, _ = io.ReadFull(w, make([]byte, len(magic)))
	if _, err := handshake.Accept(w, handshake.Party{
		Self: identity(3), PeerRecords: &handshake.Memory{},
	}, handshake.Raft); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := a.GetConnection(ctx, Target(3))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = conn.SendMessageBatch(batchFrom(1, 3, 1, 16<<20))
		}
	}()
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	cancel() // as Dragonboat does before it waits for its senders
	receive(t, done, "end of the sender")
	a.Close()
	if d := time.Since(start); d > patience/2 {
		t.Errorf("Close took %v", d)
	}
}

func TestTLS(t *testing.T) {
	pair := selfSigned(t)
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), func(o *Options) { o.TLS = pair })
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), func(o *Options) {
		o.TLS = pair
		o.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "encrypted") })
	})
	plain := newEnd(t, 3, listen(t, "127.0.0.1:0"), nil)
	a.knows(b)
	plain.knows(b)
	c := a.conn(t, 2)
	defer c.Close()
	_ = c.SendMessageBatch(batchFrom(1, 2, 1, 1<<20))
	receive(t, b.batches, "batch over TLS")
	resp, err := a.Client().Get(URL(2, "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "encrypted" {
		t.Errorf("peer client got %q", body)
	}
	eventually(t, "failed attempt", func() bool { return plain.link(2).tried.Load() })
	if plain.Stats()[0].Connected {
		t.Error("connected without TLS")
	}
}

// selfSigned returns a pair of configurations that trust each other alone.
func selfSigned(t testing.TB) *TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	own := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return &TLS{
		Server: &tls.Config{Certificates: own, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
		Client: &tls.Config{Certificates: own, RootCAs: pool},
	}
}

func TestHTTPOnTheSamePort(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /members", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "members of 2") })
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), func(o *Options) { o.Handler = mux })
	a.knows(b)
	get := func(c *http.Client, url string) (int, string) {
		t.Helper()
		resp, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if code, body := get(plain, "http://"+b.addr()+"/members"); code != 200 || body != "members of 2" {
				t.Errorf("plain client got %d %q", code, body)
			}
		})
	}
	wg.Wait()
	if code, body := get(a.Client(), URL(2, "/members")); code != 200 || body != "members of 2" {
		t.Errorf("peer client got %d %q", code, body)
	}
	if code, _ := get(plain, "http://"+a.addr()+"/members"); code != 404 {
		t.Errorf("without a handler: %d, want 404", code)
	}
}

package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

func TestFrameRoundTrip(t *testing.T) {
	var stream []byte
	payloads := [][]byte{nil, []byte("x"), bytes.Repeat([]byte("ab"), 3*readStep/2)}
	for _, p := range payloads {
		stream = appendFrame(stream, kindBatch, p)
	}
	r := bytes.NewReader(stream)
	var buf []byte
	for _, want := range payloads {
		k, got, err := readFrame(r, buf, MaxFrame)
		if err != nil || k != kindBatch || !bytes.Equal(got, want) {
			t.Fatalf("read kind %d, %d bytes, %v; want kind %d, %d bytes", k, len(got), err, kindBatch, len(want))
		}
		buf = got
	}
	if _, _, err := readFrame(r, buf, MaxFrame); err != io.EOF {
		t.Fatalf("at the end: %v, want EOF", err)
	}
}

func TestFrameRefusesDamage(t *testing.T) {
	good := appendFrame(nil, kindBatch, []byte("payload"))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		_, _, err := readFrame(bytes.NewReader(bad), nil, 100)
		if !errors.Is(err, ErrBadFrame) && err != io.ErrUnexpectedEOF {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for i := 1; i < len(good); i++ {
		if _, _, err := readFrame(bytes.NewReader(good[:i]), nil, 100); err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
	if _, _, err := readFrame(bytes.NewReader(good), nil, 6); !errors.Is(err, ErrBadFrame) {
		t.Errorf("over the limit: %v", err)
	}
}

// A length without bytes behind it must not allocate what it announces.
func TestFrameLengthAllocatesLittle(t *testing.T) {
	b := appendFrame(nil, kindBatch, nil)
	binary.LittleEndian.PutUint32(b[1:], MaxFrame)
	_, buf, err := readFrame(bytes.NewReader(b), nil, MaxFrame)
	if err != io.ErrUnexpectedEOF || cap(buf) > 2*readStep {
		t.Fatalf("%v with a buffer of %d bytes", err, cap(buf))
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindBatch, []byte("payload")))
	f.Add(appendFrame(nil, kindPing, make([]byte, pingSize)))
	f.Add(append(magic[:4:4], appendFrame(nil, kindEnd, []byte("no"))...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		k, payload, err := readFrame(r, nil, 1<<20)
		if err != nil {
			return
		}
		again := appendFrame(nil, k, payload)
		if !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("frame %x read back as %x", b, again)
		}
	})
}

// FuzzMessages feeds the decoders of what the network sends; they must neither
// panic nor let a message through that Dragonboat would panic on.
func FuzzMessages(f *testing.F) {
	batch := pb.MessageBatch{BinVer: 210, DeploymentId: 1, Requests: []pb.Message{{
		Type: pb.Replicate, From: 1, To: 2, ShardID: 1, Term: 3, LogIndex: 4, LogTerm: 2,
		Entries: []pb.Entry{{Index: 5, Term: 3, Cmd: []byte("cmd")}},
	}}}
	f.Add(pb.MustMarshal(&batch))
	chunk := pb.Chunk{ShardID: 1, ReplicaID: 2, From: 1, Index: 9, Data: []byte("data"), Filepath: "x"}
	f.Add(pb.MustMarshal(&chunk))
	f.Fuzz(func(t *testing.T, b []byte) {
		if batch, err := decodeBatch(b, 1, 2); err == nil {
			for i := range batch.Requests {
				m := &batch.Requests[i]
				if m.Type == pb.InstallSnapshot || m.From != 1 || m.To != 2 {
					t.Fatalf("let through %+v", m)
				}
			}
		}
		if c, err := decodeChunk(b, 1, 2); err == nil && (c.From != 1 || c.ReplicaID != 2) {
			t.Fatalf("let through %+v", c)
		}
	})
}

func TestCheckMessage(t *testing.T) {
	ok := pb.Message{Type: pb.Replicate, From: 1, To: 2, LogIndex: 4, Entries: []pb.Entry{{Index: 5, Term: 1}, {Index: 6, Term: 1}}}
	if err := checkMessage(&ok, 1, 2); err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string]func(*pb.Message){
		"local type":      func(m *pb.Message) { m.Type = pb.Unreachable },
		"snapshot":        func(m *pb.Message) { m.Type = pb.InstallSnapshot },
		"unknown type":    func(m *pb.Message) { m.Type = 99 },
		"other sender":    func(m *pb.Message) { m.From = 3 },
		"other receiver":  func(m *pb.Message) { m.To = 0 },
		"gap":             func(m *pb.Message) { m.Entries = []pb.Entry{{Index: 5, Term: 1}, {Index: 7, Term: 1}} },
		"not after index": func(m *pb.Message) { m.LogIndex = 7 },
		"no term":         func(m *pb.Message) { m.Entries = []pb.Entry{{Index: 5}} },
	} {
		m := ok
		edit(&m)
		if err := checkMessage(&m, 1, 2); err == nil {
			t.Errorf("%s was let through", what)
		}
	}
}

func TestTarget(t *testing.T) {
	for _, id := range []uint64{1, 0xfeed, 1 << 47, 1 << 63, ^uint64(0)} {
		got, err := ParseTarget(Target(id))
		if err != nil || got != id {
			t.Errorf("target of %x is %s, parsed as %x, %v", id, Target(id), got, err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:2380", "10000000-0000-0000-0000-000000000001", strings.Repeat("0", 36)} {
		if _, err := ParseTarget(bad); err == nil {
			t.Errorf("%q parsed", bad)
		}
	}
}

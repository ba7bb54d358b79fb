package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
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

func TestTarget(t *testing.T) {
	for _, id := range []uint64{1, 0xfeed, 1 << 47, 1 << 63, ^uint64(0)} {
		got, err := ParseTarget(Target(id))
		if err != nil || got != id {
			t.Errorf("target of %x is %s, parsed as %x, %v", id, Target(id), got, err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:2380", "10000000-0000-0000-0000-000000000001",
		strings.Repeat("0", 36)} {
		if _, err := ParseTarget(bad); err == nil {
			t.Errorf("%q parsed", bad)
		}
	}
}

package raftv1

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func sampleEntry() *Entry {
	return &Entry{Version: 1, Member: 1 << 63, Boot: 7, Start: 1<<63 + 9, Number: 300, Settled: 299,
		Commands: []Command{
			{Kind: KindPut, Body: []byte("abc")}, {
				Kind: KindTick, Body: []byte{}, By: Principal{Member: true},
			}, {
				By: Principal{
					User: strings.Repeat("u", MaxUser), AuthRevision: 1 << 40,
				}, Kind: KindTxn, Body: bytes.Repeat([]byte{1}, 300),
			},
		}}
}

func TestEntryRoundTrip(t *testing.T) {
	want := sampleEntry()
	got, err := DecodeEntry(AppendEntry(nil, want))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestDecodeEntryRefusesEveryTruncation(t *testing.T) {
	data := AppendEntry(nil, sampleEntry())
	for n := range data {
		if _, err := DecodeEntry(data[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d of %d bytes: got %v, want ErrMalformed", n, len(data), err)
		}
	}
	if _, err := DecodeEntry(append(data, 0)); !errors.Is(err, ErrMalformed) {
		t.Fatalf("trailing byte: got %v", err)
	}
}

// What is malformed all replicas refuse; what is newer they must not apply.
func TestCheckEntry(t *testing.T) {
	requests := func(kinds ...int32) Command {
		r := &Requests{}
		for _, kind := range kinds {
			data, err := proto.Marshal(&coordv1.Request{Sequence: 1, Kind: coordv1.Kind(kind), Body: []byte{1}})
			if err != nil {
				t.Fatal(err)
			}
			r.Requests = append(r.Requests, data)
		}
		body, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return Command{Kind: KindRequests, Body: body}
	}
	with := func(change func(*Entry)) []byte {
		e := sampleEntry()
		change(e)
		return AppendEntry(nil, e)
	}
	newer := AppendEntry(nil, sampleEntry())
	newer[0]++
	for what, c := range map[string]struct {
		data []byte
		want error
	}{
		"known":                      {AppendEntry(nil, sampleEntry()), nil},
		"a newer version":            {newer, ErrUnknown},
		"version 0":                  {[]byte{0, 1, 2}, ErrMalformed},
		"nothing":                    {nil, ErrMalformed},
		"a newer command":            {with(func(e *Entry) { e.Commands[1].Kind = lastKind + 1 }), ErrUnknown},
		"command 99":                 {with(func(e *Entry) { e.Commands[1].Kind = 99 }), ErrUnknown},
		"command 0":                  {with(func(e *Entry) { e.Commands[1].Kind = 0 }), ErrMalformed},
		"no member":                  {with(func(e *Entry) { e.Member = 0 }), ErrMalformed},
		"settled before it is known": {with(func(e *Entry) { e.Settled = e.Number }), ErrMalformed},
		"known requests": {with(func(e *Entry) {
			e.Commands[0] = requests(1, int32(coordv1.Kind_KIND_ACQUIRE))
		}), nil},
		"requests no session can have": {with(func(e *Entry) { e.Commands[0] = requests(0, -1, 128, 1<<31-1) }), nil},
		"a newer request":              {with(func(e *Entry) { e.Commands[0] = requests(1, 126) }), ErrUnknown},
		"a newer request in more bits": {with(func(e *Entry) {
			e.Commands[0] = Command{
				Kind: KindRequests, Body: protowire.AppendBytes([]byte{0x2a}, protowire.AppendVarint([]byte{0x10},
					1<<32+126)),
			}
		}), ErrUnknown},
		"a principal with too long a name": {with(func(e *Entry) {
			e.Commands[0].By.User = strings.Repeat("u", MaxUser+1)
		}), ErrMalformed},
		"requests that do not parse": {with(func(e *Entry) {
			e.Commands[0] = Command{Kind: KindRequests, Body: []byte{0xff}}
		}), nil},
	} {
		if err := checkEntry(c.data); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func checkEntry(data []byte) error {
	e, err := DecodeEntry(data)
	if err != nil {
		return err
	}
	return e.Check(CheckKind)
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(AppendEntry(nil, sampleEntry()))
	f.Add([]byte{byte(MinVersion), 0, 0, 0, 0, 0xff, 0xff, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		if checked := checkEntry(data); checked != nil && !errors.Is(checked, ErrMalformed) &&
			!errors.Is(checked, ErrUnknown) {
			t.Fatal(checked)
		}
		e, err := DecodeEntry(data)
		if err != nil {
			return
		}
		again, err := DecodeEntry(AppendEntry(nil, e))
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("%+v does not survive a round trip: %+v, %v", e, again, err)
		}
	})
}

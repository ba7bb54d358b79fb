package raftv1

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func sampleEntry() *Entry {
	return &Entry{Member: 1 << 63, Boot: 7, Start: 1<<63 + 9, Number: 300, Settled: 299, Commands: []Command{
		{Kind: KindPut, Body: []byte("abc")}, {Kind: KindTick, Body: []byte{}}, {Kind: KindTxn, Body: bytes.Repeat([]byte{1}, 300)},
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

func FuzzDecodeEntry(f *testing.F) {
	f.Add(AppendEntry(nil, sampleEntry()))
	f.Add([]byte{entryVersion, 0, 0, 0, 0, 0xff, 0xff, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
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

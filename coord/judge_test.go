package coord

import (
	"bytes"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// BenchmarkCheckCommand judges a batch of 64 entries of ten puts each, as every follower does with what the leader sends.
func BenchmarkCheckCommand(b *testing.B) {
	body, err := proto.Marshal(&pb.PutRequest{Key: []byte("key"), Value: bytes.Repeat([]byte("v"), 100)})
	if err != nil {
		b.Fatal(err)
	}
	e := &raftv1.Entry{Member: 7, Boot: 1, Start: 2, Number: 3}
	for range 10 {
		e.Commands = append(e.Commands, raftv1.Command{Kind: raftv1.KindPut, Body: body})
	}
	data := raftv1.AppendEntry(nil, e)
	b.ReportAllocs()
	for b.Loop() {
		for range 64 {
			if err := checkCommand(0, data); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestCheckCommandKnowsKinds: nor does an entry of a later version, a command or a request of a later kind.
func TestCheckCommandKnowsKinds(t *testing.T) {
	request, err := proto.Marshal(&coordv1.Request{Sequence: 1, Kind: 126})
	if err != nil {
		t.Fatal(err)
	}
	requests, err := proto.Marshal(&raftv1.Requests{Session: 1, Requests: [][]byte{request}})
	if err != nil {
		t.Fatal(err)
	}
	entry := func(c raftv1.Command) []byte {
		return raftv1.AppendEntry(nil, &raftv1.Entry{Member: 7, Boot: 1, Number: 1, Commands: []raftv1.Command{{Kind: raftv1.KindTick}, c}})
	}
	later := entry(raftv1.Command{Kind: raftv1.KindTick})
	later[0]++
	for what, data := range map[string][]byte{
		"version": later, "command": entry(raftv1.Command{Kind: 99}), "request": entry(raftv1.Command{Kind: raftv1.KindRequests, Body: requests}),
	} {
		if err := checkCommand(7, data); !errors.Is(err, raftv1.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

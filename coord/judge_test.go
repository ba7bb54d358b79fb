package coord

import (
	"bytes"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine/machine"
)

// checkCommand is what a member of this release judges by.
var judging = machine.New(machine.Options{Program: recipes.Program()})

var checkCommand = judge(judging.CheckCommand, func() raftv1.Version { return raftv1.MinVersion })

// BenchmarkCheckCommand judges a batch of 64 entries of ten puts each, as every follower does with what the leader
// sends.
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
		return raftv1.AppendEntry(nil, &raftv1.Entry{
			Member: 7, Boot: 1, Number: 1, Commands: []raftv1.Command{{Kind: raftv1.KindTick}, c},
		})
	}
	later := entry(raftv1.Command{Kind: raftv1.KindTick})
	later[0]++
	for what, data := range map[string][]byte{
		"version": later, "command": entry(raftv1.Command{Kind: 99}),
		"request": entry(raftv1.Command{Kind: raftv1.KindRequests, Body: requests}),
	} {
		if err := checkCommand(7, data); !errors.Is(err, raftv1.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestCheckCommandKnowsProcedures: a call that this release would end at goes into no log.
func TestCheckCommandKnowsProcedures(t *testing.T) {
	for name, want := range map[string]error{
		recipes.Acquire: nil, recipes.ConfigDelete: nil, "acquire.v2": raftv1.ErrUnknown, "": raftv1.ErrUnknown,
	} {
		body, err := proto.Marshal(&raftv1.Call{Procedure: name, Request: []byte("x"), UnixMs: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, proposer := range []uint64{0, 7} {
			entry := &raftv1.Entry{
				Member: 7, Boot: 1, Number: 1, Commands: []raftv1.Command{{Kind: raftv1.KindTick},
					{Kind: raftv1.KindCall, Body: body}},
			}
			if err := checkCommand(proposer, raftv1.AppendEntry(nil, entry)); !errors.Is(err, want) {
				t.Errorf("a call of %q: %v, want %v", name, err, want)
			}
		}
	}
}

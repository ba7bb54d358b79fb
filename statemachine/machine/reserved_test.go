package machine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

func putOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

func deleteOp(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{
		Key: []byte(key), RangeEnd: []byte(end), PrevKv: true}}}
}

func nestedOp(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

// reservedDriver has keys below the prefix, which a procedure put, and others.
func reservedDriver(t *testing.T) *driver {
	d := newDriver(t, procedure{name: "fill", run: func(s statemachine.Step) error {
		for _, key := range []string{"_coord/a", "_coord/b/c"} {
			if _, err := s.Put([]byte(key), []byte("by a procedure"), 0); err != nil {
				return err
			}
		}
		_, err := s.Put([]byte("_coord/leased"), nil, 5)
		return err
	}})
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 1e6}), call("fill"), put("_coor", ""),
		put("_coord", ""), put("_coord0", ""), put("z", ""))
	return d
}

// wantRefused wants a request to be refused as invalid, by the name of its key.
func (s *session) wantRefused(what string, r *coordv1.Request) {
	s.d.t.Helper()
	o := s.do(r)[0]
	if refusal := o.Refusal; refusal.GetReason() != coordv1.Error_REASON_INVALID ||
		!strings.Contains(refusal.GetMessage(), "_coord/") {
		s.d.t.Errorf("%s as a request: %v", what, o)
	}
}

// Nothing but a procedure writes a reserved key: refused are puts, deletions of a key, and of ranges that begin there,
// also where no path of a transaction leads, and as requests of sessions.
func TestPlainWritesOfReservedKeysAreRefused(t *testing.T) {
	never := []*pb.Compare{{
		Key: []byte("none"), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER,
		TargetUnion: &pb.Compare_Version{Version: 0},
	}}
	d := reservedDriver(t)
	s := d.openSession(6, 1e6, 9)
	revision := d.last.Revision
	sequence := uint64(0)
	for what, op := range map[string]*pb.RequestOp{
		"put":               putOp("_coord/a"),
		"put of a new key":  putOp("_coord/new"),
		"put of the prefix": putOp("_coord/"),
		"put with a lease": {
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("_coord/a"), Lease: 6}},
		},
		"put of the value": {
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("_coord/a"), IgnoreLease: true}},
		},
		"put of the lease": {
			Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: []byte("_coord/a"), IgnoreValue: true, Lease: 6},
			},
		},
		"deletion of a key":          deleteOp("_coord/a", ""),
		"deletion of no key":         deleteOp("_coord/new", ""),
		"deletion of the prefix":     deleteOp("_coord/", "_coord0"),
		"deletion from there on":     deleteOp("_coord/a", "\x00"),
		"deletion from there to out": deleteOp("_coord/zz", "z"),
		"deletion of nothing there":  deleteOp("_coord/b", "_coord/a"),
	} {
		txns := map[string]*pb.TxnRequest{
			"taken":     {Success: []*pb.RequestOp{putOp("x"), op}},
			"not taken": {Compare: never, Success: []*pb.RequestOp{op}, Failure: []*pb.RequestOp{putOp("x")}},
			"nested":    {Success: []*pb.RequestOp{nestedOp(&pb.TxnRequest{Success: []*pb.RequestOp{op}})}},
			"nested, not taken": {
				Failure: []*pb.RequestOp{nestedOp(&pb.TxnRequest{
					Failure: []*pb.RequestOp{nestedOp(&pb.TxnRequest{Success: []*pb.RequestOp{op}})},
				})},
			},
		}
		commands := map[string]raftv1.Command{}
		if r := op.GetRequestPut(); r != nil {
			commands["alone"] = command(raftv1.KindPut, r)
			sequence++
			s.wantRefused(what, request(sequence, coordv1.Kind_KIND_PUT, r))
		} else {
			commands["alone"] = command(raftv1.KindDeleteRange, op.GetRequestDeleteRange())
			sequence++
			s.wantRefused(what, request(sequence, coordv1.Kind_KIND_DELETE_RANGE, op.GetRequestDeleteRange()))
		}
		for how, r := range txns {
			commands[how] = command(raftv1.KindTxn, r)
			sequence++
			s.wantRefused(what+", "+how, request(sequence, coordv1.Kind_KIND_TXN, r))
		}
		for how, c := range commands {
			if r := d.do(c)[0]; !errors.Is(r.Err, statemachine.ErrInvalid) ||
				!strings.Contains(fmt.Sprint(r.Err), "_coord/") {
				t.Errorf("%s, %s: %v %v", what, how, r.Response, r.Err)
			}
		}
	}
	if d.last.Revision != revision || d.value("_coord/a", 0) != "by a procedure" {
		t.Errorf("revision %d after %d, _coord/a %q", d.last.Revision, revision, d.value("_coord/a", 0))
	}
}

// A deletion that begins outside passes over reserved keys: it neither deletes, counts nor returns them.
func TestDeletionsPassOverReservedKeys(t *testing.T) {
	for _, c := range []struct{ key, end, want string }{
		{"\x00", "\x00", "_coor _coord _coord0 z"},
		{"_coor", "_coord0", "_coor _coord"},
		{"_coord", "_coord/", "_coord"},
		{"_coord", "_coord/b", "_coord"},
		{"_coord", "_coord0\x00", "_coord _coord0"},
		{"_coord.", "_coord/b", ""},
		{"_coord0", "\x00", "_coord0 z"},
		{"a", "zz", "z"},
		{"a", "A", ""},
	} {
		for how, run := range map[string]func(*driver) *pb.DeleteRangeResponse{
			"alone": func(d *driver) *pb.DeleteRangeResponse {
				return d.do(command(raftv1.KindDeleteRange,
					deleteOp(c.key, c.end).GetRequestDeleteRange()))[0].Response.(*pb.DeleteRangeResponse)
			},
			"in a transaction": func(d *driver) *pb.DeleteRangeResponse {
				r := d.do(command(raftv1.KindTxn, &pb.TxnRequest{
					Success: []*pb.RequestOp{
						nestedOp(&pb.TxnRequest{Success: []*pb.RequestOp{deleteOp(c.key, c.end)}})},
				}))[0]
				return r.Response.(*pb.TxnResponse).Responses[0].GetResponseTxn().Responses[0].GetResponseDeleteRange()
			},
		} {
			d := reservedDriver(t)
			resp := run(d)
			var got []string
			for _, kv := range resp.PrevKvs {
				got = append(got, string(kv.Key))
			}
			if strings.Join(got, " ") != c.want || int(resp.Deleted) != len(got) || len(d.last.Events) != len(got) {
				t.Errorf("[%q, %q) %s: %q, %d deleted, %d events, want %q", c.key, c.end, how, got, resp.Deleted,
					len(d.last.Events), c.want)
			}
			for _, key := range []string{"_coord/a", "_coord/b/c"} {
				if d.value(key, 0) != "by a procedure" {
					t.Errorf("[%q, %q) %s: %s is gone", c.key, c.end, how, key)
				}
			}
			// A lease takes its keys along, there too.
			d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 5}))
			if len(d.last.Events) != 1 || string(d.last.Events[0].Kv.Key) != "_coord/leased" {
				t.Errorf("revoke: %v", d.last.Events)
			}
		}
	}
}

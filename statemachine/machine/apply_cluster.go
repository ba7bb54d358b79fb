package machine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// compact makes the history before a revision unreachable. The physical removal follows in the background.
func (b *batch) compact(r *pb.CompactionRequest) statemachine.Result {
	if err := b.m.alarms.refuseCorrupt(); err != nil {
		return refuse(err)
	}
	switch {
	case r.Revision > b.kv.Revision():
		return refuse(statemachine.ErrFutureRev)
	case r.Revision <= b.compacted:
		return refuse(statemachine.ErrCompacted)
	}
	b.compacted = r.Revision
	b.kv.Rows().Set(metaCompacted, binary.BigEndian.AppendUint64(nil, uint64(r.Revision)))
	return statemachine.Result{Response: &pb.CompactionResponse{Header: b.header()}}
}

// alarms are the raised alarms, ordered by type and member. The slice is replaced, never changed in place.
type alarms []*pb.AlarmMember

func (a alarms) raised(t pb.AlarmType) bool {
	return slices.ContainsFunc(a, func(m *pb.AlarmMember) bool { return m.Alarm == t })
}

func (a alarms) refuseCorrupt() error {
	if len(a) > 0 && a.raised(pb.AlarmType_CORRUPT) {
		return statemachine.ErrCorrupt
	}
	return nil
}

// refuseWrite refuses what takes space while an alarm is raised.
func (a alarms) refuseWrite() error {
	if len(a) > 0 && a.raised(pb.AlarmType_NOSPACE) {
		return statemachine.ErrNoSpace
	}
	return a.refuseCorrupt()
}

// refuseTxn refuses a transaction that may take space; one that can only delete and read is let through.
func (a alarms) refuseTxn(r *pb.TxnRequest) error {
	if len(a) > 0 && a.raised(pb.AlarmType_NOSPACE) && takesSpace(r) {
		return statemachine.ErrNoSpace
	}
	return a.refuseCorrupt()
}

func takesSpace(r *pb.TxnRequest) bool {
	has := func(op *pb.RequestOp) bool {
		return op.GetRequestPut() != nil || op.GetRequestTxn() != nil && takesSpace(op.GetRequestTxn())
	}
	return slices.ContainsFunc(r.Success, has) || slices.ContainsFunc(r.Failure, has)
}

// compareAlarms is the order of the rows, from which the alarms are loaded: types are any number a client sends.
func compareAlarms(x, y *pb.AlarmMember) int {
	return cmp.Or(cmp.Compare(uint32(x.Alarm), uint32(y.Alarm)), cmp.Compare(x.MemberID, y.MemberID))
}

func alarmKey(a *pb.AlarmMember) []byte {
	k := binary.BigEndian.AppendUint32([]byte{mvcc.SpaceAlarms}, uint32(a.Alarm))
	return binary.BigEndian.AppendUint64(k, a.MemberID)
}

// alarm lists, raises or disarms alarms. Listing takes the type NONE for all; disarming too.
func (b *batch) alarm(r *pb.AlarmRequest) statemachine.Result {
	resp := &pb.AlarmResponse{Header: b.header()}
	matches := func(a *pb.AlarmMember) bool { return r.Alarm == pb.AlarmType_NONE || a.Alarm == r.Alarm }
	switch r.Action {
	case pb.AlarmRequest_GET:
		for _, a := range b.m.alarms {
			if matches(a) {
				resp.Alarms = append(resp.Alarms, a)
			}
		}
	case pb.AlarmRequest_ACTIVATE:
		if r.Alarm == pb.AlarmType_NONE {
			break
		}
		raised, err := b.raise(&pb.AlarmMember{MemberID: r.MemberID, Alarm: r.Alarm})
		if err != nil {
			return refuse(err)
		}
		resp.Alarms = append(resp.Alarms, raised)
	case pb.AlarmRequest_DEACTIVATE:
		if a := b.disarm(&pb.AlarmMember{MemberID: r.MemberID, Alarm: r.Alarm}); a != nil {
			resp.Alarms = append(resp.Alarms, a)
		}
	default:
		return refuse(fmt.Errorf("%w: alarm action %d", statemachine.ErrInvalid, r.Action))
	}
	return statemachine.Result{Response: resp}
}

// raise raises an alarm, for any id, as etcd does: it need not be a member's.
func (b *batch) raise(a *pb.AlarmMember) (*pb.AlarmMember, error) {
	at, found := slices.BinarySearchFunc(b.m.alarms, a, compareAlarms)
	if found {
		return b.m.alarms[at], nil
	}
	if len(b.m.alarms) >= statemachine.MaxAlarms && !b.ofMember(a) {
		return nil, statemachine.ErrTooManyAlarms
	}
	b.setAlarms(slices.Insert(slices.Clone(b.m.alarms), at, a))
	b.kv.Rows().Set(alarmKey(a), nil)
	return a, nil
}

// ofMember reports whether an alarm is one that a member raises for itself. There are few of them.
func (b *batch) ofMember(a *pb.AlarmMember) bool {
	_, found := findMember(b.m.members, a.MemberID)
	return found && (a.Alarm == pb.AlarmType_NOSPACE || a.Alarm == pb.AlarmType_CORRUPT)
}

func (b *batch) disarm(a *pb.AlarmMember) *pb.AlarmMember {
	at, found := slices.BinarySearchFunc(b.m.alarms, a, compareAlarms)
	if !found {
		return nil
	}
	b.setAlarms(slices.Delete(slices.Clone(b.m.alarms), at, at+1))
	b.kv.Rows().Delete(alarmKey(a))
	return a
}

func (b *batch) setAlarms(a alarms) {
	b.m.alarms = a
	b.applied.AlarmsChanged = true
}

// memberPut writes a member's attributes; empty fields keep what is stored. Of several that add or move members at
// once, each through another member that cannot see the others, the first has the id and the addresses.
func (b *batch) memberPut(r *raftv1.MemberPut) statemachine.Result {
	put := r.GetMember()
	if put.GetId() == 0 {
		return refuse(fmt.Errorf("%w: member without an id", statemachine.ErrInvalid))
	}
	merged := &raftv1.Member{Id: put.Id}
	at, found := findMember(b.m.members, put.Id)
	switch {
	case r.Add && found:
		return refuse(statemachine.ErrMemberExists)
	case r.Claim && peerURLTaken(b.m.members, put):
		return refuse(statemachine.ErrPeerURLExists)
	}
	if found {
		merged = proto.CloneOf(b.m.members[at])
	}
	if put.Name != "" {
		merged.Name = put.Name
	}
	if len(put.PeerUrls) > 0 {
		merged.PeerUrls = put.PeerUrls
	}
	if len(put.ClientUrls) > 0 {
		merged.ClientUrls = put.ClientUrls
	}
	if put.MaxVersion != 0 {
		merged.MinVersion, merged.MaxVersion = put.MinVersion, put.MaxVersion
	}
	members := slices.Clone(b.m.members)
	if found {
		members[at] = merged
	} else {
		members = slices.Insert(members, at, merged)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(merged)
	b.fail(err)
	b.kv.Rows().Set(mvcc.IDKey(mvcc.SpaceMembers, put.Id), data)
	return b.setMembers(members)
}

func (b *batch) memberRemove(r *raftv1.MemberRemove) statemachine.Result {
	at, found := findMember(b.m.members, r.Id)
	if !found {
		return statemachine.Result{Response: statemachine.MemberChanged{Members: b.m.members}}
	}
	b.kv.Rows().Delete(mvcc.IDKey(mvcc.SpaceMembers, r.Id))
	return b.setMembers(slices.Delete(slices.Clone(b.m.members), at, at+1))
}

func (b *batch) setMembers(members []*raftv1.Member) statemachine.Result {
	b.m.members = members
	b.applied.MembersChanged = true
	return statemachine.Result{Response: statemachine.MemberChanged{Members: members}}
}

// peerURLTaken reports whether the row of another member than put's has one of its peer URLs.
func peerURLTaken(members []*raftv1.Member, put *raftv1.Member) bool {
	return slices.ContainsFunc(members, func(m *raftv1.Member) bool {
		return m.Id != put.Id && slices.ContainsFunc(m.PeerUrls, func(u string) bool {
			return slices.Contains(put.PeerUrls, u)
		})
	})
}

func findMember(members []*raftv1.Member, id uint64) (int, bool) {
	return slices.BinarySearchFunc(members, id, func(m *raftv1.Member, id uint64) int { return cmp.Compare(m.Id, id) })
}

// loadAlarm and loadMember parse the rows again.
func loadAlarm(key []byte) (*pb.AlarmMember, error) {
	if len(key) != 13 {
		return nil, fmt.Errorf("%w: alarm row %x", mvcc.ErrCorrupt, key)
	}
	return &pb.AlarmMember{
		Alarm:    pb.AlarmType(binary.BigEndian.Uint32(key[1:])),
		MemberID: binary.BigEndian.Uint64(key[5:]),
	}, nil
}

func loadMember(value []byte) (*raftv1.Member, error) {
	m := &raftv1.Member{}
	if err := proto.Unmarshal(bytes.Clone(value), m); err != nil {
		return nil, fmt.Errorf("%w: member row: %v", mvcc.ErrCorrupt, err)
	}
	return m, nil
}

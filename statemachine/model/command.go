package model

import (
	"cmp"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// command runs one command and returns its response or its refusal.
func (m *Model) command(c raftv1.Command) (any, error) {
	switch c.Kind {
	case raftv1.KindPut:
		return parsed(c, m.putCommand)
	case raftv1.KindDeleteRange:
		return parsed(c, m.deleteCommand)
	case raftv1.KindTxn:
		return parsed(c, m.txn)
	case raftv1.KindCompact:
		return parsed(c, m.compact)
	case raftv1.KindLeaseGrant:
		return parsed(c, m.grant)
	case raftv1.KindLeaseRevoke:
		return parsed(c, m.revoke)
	case raftv1.KindLeaseRenew:
		return parsed(c, m.renew)
	case raftv1.KindTick:
		return parsed(c, m.applyTick)
	case raftv1.KindAlarm:
		return parsed(c, m.alarm)
	case raftv1.KindMemberPut:
		return parsed(c, m.memberPut)
	case raftv1.KindVersionRaise:
		return parsed(c, m.raiseVersion)
	case raftv1.KindHistoryBegin:
		return parsed(c, m.beginHistory)
	case raftv1.KindMemberRemove:
		return parsed(c, m.memberRemove)
	case raftv1.KindStateHash:
		return statemachine.Hashed{Index: m.index, Revision: m.Revision()}, nil
	case raftv1.KindCall:
		return parsed(c, m.call)
	case raftv1.KindSessionOpen:
		return parsed(c, m.sessionOpen)
	case raftv1.KindSessionAttach:
		return parsed(c, m.sessionAttach)
	case raftv1.KindSessionEnd:
		return parsed(c, m.sessionEnd)
	case raftv1.KindStreamRenew:
		return parsed(c, m.streamRenew)
	case raftv1.KindRequests:
		return parsed(c, m.requests)
	}
	panic(fmt.Sprintf("the model knows no command of kind %d", c.Kind))
}

func parsed[T any, M interface {
	*T
	proto.Message
}](c raftv1.Command, run func(M) (any, error)) (any, error) {
	msg := M(new(T))
	if proto.Unmarshal(c.Body, msg) != nil {
		return nil, statemachine.ErrInvalid
	}
	return run(msg)
}

func (m *Model) raised(t pb.AlarmType) bool {
	return slices.ContainsFunc(m.alarms, func(a *pb.AlarmMember) bool { return a.Alarm == t })
}

// refused is the refusal that raised alarms mean for a command; space says that it may take space.
func (m *Model) refused(space bool) error {
	if space && m.raised(pb.AlarmType_NOSPACE) {
		return statemachine.ErrNoSpace
	}
	if m.raised(pb.AlarmType_CORRUPT) {
		return statemachine.ErrCorrupt
	}
	return nil
}

func (m *Model) compact(r *pb.CompactionRequest) (any, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	if r.Revision > m.Revision() {
		return nil, statemachine.ErrFutureRev
	}
	if r.Revision <= m.compacted {
		return nil, statemachine.ErrCompacted
	}
	m.compacted = r.Revision
	return &pb.CompactionResponse{Header: m.header()}, nil
}

func (m *Model) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: m.Revision()} }

// ofMember reports whether an alarm is one that a member raises for itself.
func (m *Model) ofMember(a *pb.AlarmMember) bool {
	known := a.Alarm == pb.AlarmType_NOSPACE || a.Alarm == pb.AlarmType_CORRUPT
	return known && slices.ContainsFunc(m.members, func(o *raftv1.Member) bool { return o.Id == a.MemberID })
}

func (m *Model) alarm(r *pb.AlarmRequest) (any, error) {
	resp := &pb.AlarmResponse{Header: m.header()}
	named := &pb.AlarmMember{MemberID: r.MemberID, Alarm: r.Alarm}
	at := slices.IndexFunc(m.alarms, func(a *pb.AlarmMember) bool { return proto.Equal(a, named) })
	switch r.Action {
	case pb.AlarmRequest_GET:
		for _, a := range m.alarms {
			if r.Alarm == pb.AlarmType_NONE || r.Alarm == a.Alarm {
				resp.Alarms = append(resp.Alarms, a)
			}
		}
	case pb.AlarmRequest_ACTIVATE:
		if r.Alarm == pb.AlarmType_NONE {
			break
		}
		resp.Alarms = []*pb.AlarmMember{named}
		if at >= 0 {
			break
		}
		if len(m.alarms) >= statemachine.MaxAlarms && !m.ofMember(named) {
			return nil, statemachine.ErrTooManyAlarms
		}
		m.alarms = append(slices.Clone(m.alarms), named)
		slices.SortFunc(m.alarms, func(a, b *pb.AlarmMember) int {
			return cmp.Or(cmp.Compare(uint32(a.Alarm), uint32(b.Alarm)), cmp.Compare(a.MemberID, b.MemberID))
		})
		m.out.AlarmsChanged = true
	case pb.AlarmRequest_DEACTIVATE:
		if at < 0 {
			break
		}
		resp.Alarms = []*pb.AlarmMember{named}
		m.alarms = slices.Delete(slices.Clone(m.alarms), at, at+1)
		m.out.AlarmsChanged = true
	default:
		return nil, statemachine.ErrInvalid
	}
	return resp, nil
}

func (m *Model) memberAt(id uint64) int {
	return slices.IndexFunc(m.members, func(x *raftv1.Member) bool { return x.Id == id })
}

func (m *Model) memberPut(r *raftv1.MemberPut) (any, error) {
	put := r.GetMember()
	if put.GetId() == 0 {
		return nil, statemachine.ErrInvalid
	}
	if r.Add && m.memberAt(put.Id) >= 0 {
		return nil, statemachine.ErrMemberExists
	}
	for _, other := range m.members {
		for _, u := range other.PeerUrls {
			if r.Claim && other.Id != put.Id && slices.Contains(put.PeerUrls, u) {
				return nil, statemachine.ErrPeerURLExists
			}
		}
	}
	merged := proto.CloneOf(put)
	if put.MaxVersion == 0 {
		merged.MinVersion = 0
	}
	rest := slices.Clone(m.members)
	if at := m.memberAt(put.Id); at >= 0 {
		old := rest[at]
		rest = slices.Delete(rest, at, at+1)
		merged.Name = cmp.Or(put.Name, old.Name)
		if len(put.PeerUrls) == 0 {
			merged.PeerUrls = old.PeerUrls
		}
		if len(put.ClientUrls) == 0 {
			merged.ClientUrls = old.ClientUrls
		}
		if put.MaxVersion == 0 {
			merged.MinVersion, merged.MaxVersion = old.MinVersion, old.MaxVersion
		}
	}
	m.members = append(rest, merged)
	slices.SortFunc(m.members, func(a, b *raftv1.Member) int { return cmp.Compare(a.Id, b.Id) })
	m.out.MembersChanged = true
	return statemachine.MemberChanged{Members: m.members}, nil
}

func (m *Model) memberRemove(r *raftv1.MemberRemove) (any, error) {
	if at := m.memberAt(r.Id); at >= 0 {
		m.members = slices.Delete(slices.Clone(m.members), at, at+1)
		m.out.MembersChanged = true
	}
	return statemachine.MemberChanged{Members: m.members}, nil
}

func (m *Model) raiseVersion(r *raftv1.VersionRaise) (any, error) {
	to := raftv1.Version(r.Version)
	refused := to != m.version+1 || len(m.members) == 0
	for _, member := range m.members {
		refused = refused || to < raftv1.Version(member.MinVersion) || to > raftv1.Version(member.MaxVersion)
	}
	if refused {
		return nil, statemachine.ErrInvalid
	}
	m.version = to
	return statemachine.VersionRaised{Version: to}, nil
}

func (m *Model) beginHistory(h *raftv1.HistoryBegin) (any, error) {
	if h.Id == 0 || m.identity != 0 {
		return nil, statemachine.ErrInvalid
	}
	m.identity = h.Id
	return statemachine.HistoryBegun{ID: h.Id}, nil
}

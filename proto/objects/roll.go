package objects

import (
	"cmp"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// ParseMember is the member of a group that kv is; ok is false if it is none: it stands deeper, or is of no session.
func ParseMember(group string, kv *mvccpb.KeyValue) (m *coordv1.GroupMember, ok bool) {
	id, ok := strings.CutPrefix(string(kv.Key), layout.Group.Prefix(group))
	if !ok || layout.CheckMember(id) != nil || kv.Lease <= 0 {
		return nil, false
	}
	return &coordv1.GroupMember{
		Id: id, Data: kv.Value, Joined: kv.CreateRevision, Updated: kv.ModRevision, Session: kv.Lease,
	}, true
}

// Members are those of a group among kvs, in the order in which they joined.
func Members(group string, kvs []*mvccpb.KeyValue) []*coordv1.GroupMember {
	members := make([]*coordv1.GroupMember, 0, len(kvs))
	for _, kv := range kvs {
		if m, ok := ParseMember(group, kv); ok {
			members = append(members, m)
		}
	}
	slices.SortFunc(members, compareMembers)
	return members
}

func compareMembers(a, b *coordv1.GroupMember) int {
	return cmp.Or(cmp.Compare(a.Joined, b.Joined), cmp.Compare(a.Id, b.Id))
}

// Roll is the members of a group as of one revision. Not safe for concurrent use.
type Roll struct {
	group   string
	members []*coordv1.GroupMember // as they joined
	byID    map[string]*coordv1.GroupMember
	begun   bool
}

// NewRoll returns the roll of a group, which is empty until it takes something.
func NewRoll(group string) *Roll {
	return &Roll{group: group, byID: map[string]*coordv1.GroupMember{}}
}

// Members are those there are, in the order in which they joined. The slice is valid until the roll takes something
// again; its members are not changed.
func (r *Roll) Members() []*coordv1.GroupMember { return r.members }

// Take takes all keys there are under the group at a revision. It returns how that differs from before: gap is set
// unless it is the first thing taken.
func (r *Roll) Take(revision int64, kvs []*mvccpb.KeyValue) *coordv1.GroupChange {
	c := &coordv1.GroupChange{Revision: revision, Gap: r.begun}
	r.begun = true
	before := r.byID
	r.members, r.byID = Members(r.group, kvs), make(map[string]*coordv1.GroupMember, len(kvs))
	for _, m := range r.members {
		r.byID[m.Id] = m
		switch old := before[m.Id]; {
		case old == nil || old.Joined != m.Joined:
			c.Joined = append(c.Joined, m)
		case old.Updated != m.Updated:
			c.Updated = append(c.Updated, m)
		}
	}
	for id, old := range before {
		if now := r.byID[id]; now == nil || now.Joined != old.Joined {
			c.Left = append(c.Left, old)
		}
	}
	slices.SortFunc(c.Left, compareMembers)
	return c
}

// Apply takes the changes of one revision. It returns what they did to the group, nil if nothing.
func (r *Roll) Apply(revision int64, events []*mvccpb.Event) *coordv1.GroupChange {
	c := &coordv1.GroupChange{Revision: revision}
	for _, e := range events {
		id, _ := strings.CutPrefix(string(e.Kv.Key), layout.Group.Prefix(r.group))
		old := r.byID[id]
		m, ok := ParseMember(r.group, e.Kv)
		switch {
		case (!ok || e.Type == mvccpb.Event_DELETE) && old != nil:
			r.remove(old)
			c.Left = append(c.Left, old)
		case !ok || e.Type == mvccpb.Event_DELETE:
		case old == nil:
			r.add(m)
			c.Joined = append(c.Joined, m)
		default:
			r.members[r.find(old)], r.byID[id] = m, m
			c.Updated = append(c.Updated, m)
		}
	}
	if len(c.Joined)+len(c.Left)+len(c.Updated) == 0 {
		return nil
	}
	return c
}

func (r *Roll) find(m *coordv1.GroupMember) int {
	i, _ := slices.BinarySearchFunc(r.members, m, compareMembers)
	return i
}

func (r *Roll) add(m *coordv1.GroupMember) {
	r.members, r.byID[m.Id] = slices.Insert(r.members, r.find(m), m), m
}

func (r *Roll) remove(m *coordv1.GroupMember) {
	i := r.find(m)
	r.members = slices.Delete(r.members, i, i+1)
	delete(r.byID, m.Id)
}

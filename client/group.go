package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	clientv3 "go.etcd.io/etcd/client/v3"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// Group is who is there: members, each with an id and some data, for as long as their sessions live. It holds no state:
// any number may exist for one name. Safe for concurrent use.
type Group struct{ object }

// Group returns the group of that name, joined through the client's shared session. A name is not empty and does not
// end in a slash; "a" and "a/b" are two groups.
func (c *Client) Group(name string) *Group {
	return &Group{object{recipe{client: c}, layout.Group, name}}
}

// Group returns the group of that name, joined through this session.
func (s *Session) Group(name string) *Group {
	return &Group{object{recipe{s.client, s}, layout.Group, name}}
}

// Membership is that of a session in a group. It ends with Leave or with the session. Safe for concurrent use.
type Membership struct {
	group   *Group
	session *Session
	id      string
	joined  int64
}

// Join makes the session a member: id is 1 to 128 of [0-9A-Za-z_.:@-], data at most 65536 bytes. The error wraps
// ErrMemberExists while another session has that id: one that died has it until its TTL is over. The session itself can
// join again, with other data.
func (g *Group) Join(ctx context.Context, id string, data []byte) (*Membership, error) {
	resp := &coordv1.GroupJoined{}
	s, err := g.change(ctx, coordv1.Kind_KIND_GROUP_JOIN, &coordv1.GroupJoin{Name: g.name, Member: id, Data: data},
		resp)
	if err != nil {
		return nil, fmt.Errorf("join group %q as %q: %w", g.name, id, err)
	}
	return &Membership{g, s, id, resp.Joined}, nil
}

// ID is the member's id.
func (m *Membership) ID() string { return m.id }

// Joined is the revision at which the member joined.
func (m *Membership) Joined() int64 { return m.joined }

// Session is the one that is the member.
func (m *Membership) Session() *Session { return m.session }

// Update gives the member other data. The error wraps ErrNotSet if it left, or its key was deleted.
func (m *Membership) Update(ctx context.Context, data []byte) error {
	req := &coordv1.GroupUpdate{Name: m.group.name, Member: m.id, Data: data}
	if err := m.session.change(ctx, coordv1.Kind_KIND_GROUP_UPDATE, req, &coordv1.GroupUpdated{}); err != nil {
		return fmt.Errorf("update %q of group %q: %w", m.id, m.group.name, err)
	}
	return nil
}

// Leave ends the membership. It can be repeated, also when another session is the member by then.
func (m *Membership) Leave(ctx context.Context) error {
	req := &coordv1.GroupLeave{Name: m.group.name, Member: m.id}
	err := m.session.change(ctx, coordv1.Kind_KIND_GROUP_LEAVE, req, &coordv1.GroupLeft{})
	if err != nil && !errors.Is(err, ErrMemberExists) {
		return fmt.Errorf("leave group %q as %q: %w", m.group.name, m.id, err)
	}
	return nil
}

// Done is closed when the session is lost or closed, and the membership with it.
func (m *Membership) Done() <-chan struct{} { return m.session.Done() }

// Err says why, nil before.
func (m *Membership) Err() error { return m.session.Err() }

// Members returns those there are at one revision, in the order in which they joined, and the revision.
func (g *Group) Members(ctx context.Context) (members []Member, revision int64, err error) {
	if err := g.check(); err != nil {
		return nil, 0, fmt.Errorf("members of group %q: %w", g.name, err)
	}
	resp, err := g.client.Get(ctx, layout.Group.Prefix(g.name), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("members of group %q: %w", g.name, err)
	}
	return membersOf(objects.Members(g.name, resp.Kvs)), resp.Header.Revision, nil
}

// GroupChange is what happened to a group at one revision.
type GroupChange struct {
	Revision int64
	// Members are those there are now, in the order in which they joined.
	Members []Member
	// Joined, Left and Updated make the difference to what was known before: in the first change, all have joined. Left
	// are as they were.
	Joined, Left, Updated []Member
	// Gap: changes were compacted before they could be seen, and this one sums them up. Who left and joined again
	// meanwhile is in both Left and Joined.
	Gap bool
}

// Watch yields the members as they are at one revision, and then every change, in order and without gaps, until ctx
// ends or the loop is left. It goes on by itself after a broken connection. An error is the last thing it yields:
// ctx's, ErrClosed, or a refusal by the server.
func (g *Group) Watch(ctx context.Context) iter.Seq2[GroupChange, error] {
	return func(yield func(GroupChange, error) bool) {
		if err := g.check(); err != nil {
			yield(GroupChange{}, fmt.Errorf("watch group %q: %w", g.name, err))
			return
		}
		roll := objects.NewRoll(g.name)
		for u, err := range g.client.WatchPrefix(ctx, layout.Group.Prefix(g.name)) {
			if err != nil {
				yield(GroupChange{}, fmt.Errorf("watch group %q: %w", g.name, err))
				return
			}
			var c *coordv1.GroupChange
			if u.Resync {
				c = roll.Take(u.Revision, u.KVs)
			} else {
				c = roll.Apply(u.Revision, u.plain())
			}
			if c == nil {
				continue
			}
			change := GroupChange{
				Revision: c.Revision, Gap: c.Gap, Members: membersOf(roll.Members()),
				Joined: membersOf(c.Joined), Left: membersOf(c.Left), Updated: membersOf(c.Updated),
			}
			if !yield(change, nil) {
				return
			}
		}
	}
}

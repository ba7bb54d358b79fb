package coord

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/datadir"
	"github.com/coord-dev/coord/coord/internal/group"
	"github.com/coord-dev/coord/coord/internal/peer"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// members knows who the members are: Raft's membership says who takes part, the rows in the store say under which name
// and addresses. Until a founding member's row is there, the flags of this member say so.
type members struct {
	s    *Server
	kick chan struct{}

	mu      sync.Mutex
	book    *peer.Book        // nil before attach
	raft    *group.Membership // nil before it was first read
	rows    map[uint64]*raftv1.Member
	initial map[uint64]InitialMember
	// strays are the rows without a member, and since when this member leads and sees them.
	strays map[uint64]time.Time
}

func newMembers(s *Server) *members {
	m := &members{s: s, kick: make(chan struct{}, 1), initial: make(map[uint64]InitialMember)}
	if s.cfg.ClusterState == ClusterStateExisting {
		return m // members may have been replaced at their addresses, so that the flags do not tell their ids
	}
	if list, err := s.cfg.InitialMembers(); err == nil {
		for _, each := range list {
			m.initial[each.ID] = each
		}
	}
	return m
}

// Applied and Recovered implement statemachine.Observer.
func (m *members) Applied(a *statemachine.Applied) {
	if a.MembersChanged {
		m.load()
		m.changed() // the cluster's version may be raised now
	}
}

func (m *members) Recovered(*statemachine.Applied, func(uint64) bool) {
	m.load()
	m.changed()
}

// attach takes the node's book, and puts the addresses in it that are known by now. The log is being applied already.
func (m *members) attach(book *peer.Book) {
	m.mu.Lock()
	m.book = book
	m.mu.Unlock()
	m.load()
}

// load takes the rows from the store, and the peer addresses in them to the node. The view is taken under the lock, so
// that of two loads the later one has the later rows.
func (m *members) load() {
	m.mu.Lock()
	defer m.mu.Unlock()
	view, err := m.s.system.Read(m.s.ctx)
	if err != nil {
		return
	}
	defer view.Close()
	before := m.rows
	m.rows = make(map[uint64]*raftv1.Member)
	for _, row := range view.Members() {
		m.rows[row.Id] = row
	}
	if m.book != nil {
		m.address(before)
	}
	for id := range m.rows {
		if m.raft != nil && !slices.Contains(m.raft.Voters, id) && !slices.Contains(m.raft.Learners, id) {
			m.changed() // it may have to be swept
		}
	}
}

// address puts the peer addresses of the rows into the book, in place of those of earlier rows.
func (m *members) address(before map[uint64]*raftv1.Member) {
	for id := range before {
		if m.rows[id] == nil {
			m.book.Set(id, nil)
		}
	}
	for id, row := range m.rows {
		if len(row.PeerUrls) > 0 && !m.removed(id) {
			m.book.Set(id, addresses(row.PeerUrls))
		}
	}
}

// removed reports whether Raft's membership, as last read, has no such member any more. It is called with mu held.
func (m *members) removed(id uint64) bool {
	return m.raft != nil && slices.Contains(m.raft.Removed, id)
}

// strayPatience is how long a row may have no member: its member is added behind it, which takes no longer than a
// request may. strayPause lies between two looks at such rows.
const (
	strayPatience = 30 * time.Second
	strayPause    = 5 * time.Second
)

// sweep deletes rows that have no member, if this member leads: of those removed through themselves, who could not do
// it, and of those never added, whose outcome nobody learnt or whose adder died. The latter are excluded first, so that
// a request which is still under way adds nobody without a row. Who leads next does what is left.
func (m *members) sweep(raft *group.Membership, now time.Time) {
	ctx, cancel := context.WithTimeout(m.s.ctx, publishTimeout)
	defer cancel()
	for _, id := range m.strayed(raft, now) {
		if err := m.s.system.group.Exclude(ctx, id); err != nil {
			m.s.log.Warn("excluding a member that was not added", zap.String("member", hex(id)), zap.Error(err))
			continue
		}
		m.s.log.Info("a member was not added: its row is deleted", zap.String("member", hex(id)))
		if err := m.remove(ctx, id); err != nil {
			m.s.log.Warn("deleting the row of a member that was not added", zap.String("member", hex(id)),
				zap.Error(err))
		}
	}
	if !m.s.system.group.IsLeader() {
		return
	}
	if err := m.removeRows(ctx, raft); err != nil {
		m.s.log.Warn("deleting the row of a removed member", zap.Error(err))
	}
}

// strayed returns the rows that have had no member for strayPatience, and remembers the younger ones.
func (m *members) strayed(raft *group.Membership, now time.Time) (old []uint64) {
	leads := m.s.system.group.IsLeader()
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.strays
	m.strays = make(map[uint64]time.Time)
	for id := range m.rows {
		if !leads || slices.Contains(slices.Concat(raft.Voters, raft.Learners, raft.Removed), id) {
			continue
		}
		since, seen := before[id]
		if !seen {
			since = now
		}
		m.strays[id] = since
		if now.Sub(since) >= strayPatience {
			old = append(old, id)
		}
	}
	slices.Sort(old)
	return old
}

// removeRows deletes the rows of removed members.
func (m *members) removeRows(ctx context.Context, raft *group.Membership) error {
	for _, id := range raft.Removed {
		if m.row(id) == nil {
			continue
		}
		if err := m.remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// none reports whether nothing is known from the log yet.
func (m *members) none() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows) == 0
}

// found takes addresses from elsewhere, as long as there are none from the log.
func (m *members) found(list []datadir.Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rows) > 0 {
		return
	}
	for _, each := range list {
		m.book.Set(each.ID, addresses(each.PeerURLs))
	}
}

// changed makes refresh read Raft's membership again.
func (m *members) changed() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// refresh keeps Raft's membership as last read, for answers that need not be up to date.
func (m *members) refresh() error {
	for {
		ctx, cancel := context.WithTimeout(m.s.ctx, 5*time.Second)
		raft, err := m.s.system.group.Membership(ctx)
		cancel()
		if err == nil {
			m.learn(&raft)
			m.beginHistory()
			m.sweep(&raft, time.Now())
			m.raiseVersion(&raft)
		} else {
			m.changed() // try again
		}
		select {
		case <-m.s.ctx.Done():
			return nil
		case <-m.kick:
		case <-m.look():
		}
	}
}

// look is when rows without a member are looked at again; never if there are none.
func (m *members) look() <-chan time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.strays) == 0 {
		return nil
	}
	return time.After(strayPause)
}

func (m *members) learn(raft *group.Membership) {
	m.mu.Lock()
	newer := m.raft == nil || raft.Version >= m.raft.Version
	if newer {
		m.raft = raft
	}
	m.mu.Unlock()
	if !newer {
		return
	}
	for _, id := range raft.Removed {
		m.s.host.Book().Remove(id)
		if err := m.s.dir.ForgetPeer(id); err != nil {
			m.s.log.Warn("forgetting a removed member", zap.Error(err))
		}
		m.s.host.Book().Set(id, nil) // whoever named it, row or flags
	}
}

// describe is the list of members of a membership, by id.
func (m *members) describe(raft *group.Membership) []*pb.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*pb.Member
	add := func(id uint64, learner bool) {
		out := &pb.Member{ID: id, IsLearner: learner, PeerURLs: m.initial[id].PeerURLs}
		if row := m.rows[id]; row != nil {
			out.Name, out.ClientURLs = row.Name, row.ClientUrls
			if len(row.PeerUrls) > 0 {
				out.PeerURLs = row.PeerUrls
			}
		}
		list = append(list, out)
	}
	if raft == nil {
		raft = m.guess()
	}
	for _, id := range raft.Voters {
		add(id, false)
	}
	for _, id := range raft.Learners {
		add(id, true)
	}
	slices.SortFunc(list, func(a, b *pb.Member) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// guess is the membership before Raft was first asked.
func (m *members) guess() *group.Membership {
	raft := &group.Membership{}
	for id := range m.rows {
		raft.Voters = append(raft.Voters, id)
	}
	if len(raft.Voters) == 0 {
		for id := range m.initial {
			raft.Voters = append(raft.Voters, id)
		}
	}
	return raft
}

// known is Raft's membership as last read, nil before.
func (m *members) known() *group.Membership {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.raft
}

// list is what the peer port shows.
func (m *members) list() []datadir.Member {
	var list []datadir.Member
	for _, each := range m.describe(m.known()) {
		list = append(list, datadir.Member{
			ID: each.ID, PeerURLs: each.PeerURLs, IsLearner: each.IsLearner, Name: each.Name,
			ClientURLs: each.ClientURLs,
		})
	}
	return list
}

func (m *members) cluster() datadir.Cluster {
	return datadir.Cluster{Members: m.list, Removed: func(id uint64) bool {
		raft := m.known()
		return raft != nil && slices.Contains(raft.Removed, id)
	}, Version: m.s.system.Machine.Version, History: m.s.system.Machine.History().ID}
}

// row is a member's row, nil if there is none.
func (m *members) row(id uint64) *raftv1.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rows[id]
}

// put writes a member's row.
func (m *members) put(ctx context.Context, put *raftv1.MemberPut) error {
	return m.s.propose(ctx, raftv1.KindMemberPut, put)
}

func (m *members) remove(ctx context.Context, id uint64) error {
	return m.s.propose(ctx, raftv1.KindMemberRemove, &raftv1.MemberRemove{Id: id})
}

// propose sends what this member wants for the cluster's sake through the log.
func (s *Server) propose(ctx context.Context, kind raftv1.Kind, message proto.Message) error {
	body, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	_, err = s.system.Propose(ctx, kind, body)
	return err
}

// publishTimeout bounds one attempt to publish, publishPause lies between two.
const (
	publishTimeout = 5 * time.Second
	publishPause   = 100 * time.Millisecond
)

// publish writes into the log who this member is, once it can, and says that the member is ready.
func (s *Server) publish() error {
	for s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(s.ctx, publishTimeout)
		err := s.tryPublish(ctx)
		cancel()
		if err == nil {
			s.log.Info("ready to serve client requests",
				zap.String("member", hex(s.identity.MemberID)), zap.String("cluster", hex(s.identity.ClusterID)),
				zap.String("history", hex(s.system.Machine.History().ID())),
				zap.Strings("client-urls", s.cfg.ListenClientURLs))
			close(s.ready)
			return nil
		}
		s.pause(publishPause)
	}
	return nil
}

func (s *Server) tryPublish(ctx context.Context) error {
	select {
	case <-s.system.Machine.History().Begun(): // before, nothing is proposed
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.system.group.ReadIndex(ctx); err != nil {
		return err
	}
	me := &raftv1.Member{
		Id: s.identity.MemberID, Name: s.cfg.Name, ClientUrls: s.cfg.AdvertiseClientURLs,
		MinVersion: uint32(raftv1.MinVersion), MaxVersion: uint32(raftv1.MaxVersion),
	}
	if row := s.members.row(me.Id); row == nil || len(row.PeerUrls) == 0 {
		me.PeerUrls = s.identity.PeerURLs
	} else if row.Name == me.Name && slices.Equal(row.ClientUrls, me.ClientUrls) && row.MinVersion == me.MinVersion &&
		row.MaxVersion == me.MaxVersion {
		return nil // nothing new
	}
	if err := s.members.put(ctx, &raftv1.MemberPut{Member: me}); err != nil {
		return err
	}
	return s.publishFounders(ctx)
}

// publishFounders writes the addresses of the other founding members that have no row yet, so that nobody depends on
// flags any more.
func (s *Server) publishFounders(ctx context.Context) error {
	raft, err := s.system.group.Membership(ctx)
	if err != nil {
		return err
	}
	for _, id := range append(raft.Voters, raft.Learners...) {
		founder, ok := s.members.initial[id]
		if !ok || s.members.row(id) != nil {
			continue
		}
		if err := s.members.put(ctx, &raftv1.MemberPut{
			Member: &raftv1.Member{Id: id, PeerUrls: founder.PeerURLs},
		}); err != nil {
			return err
		}
	}
	return nil
}

package peer

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
)

// targetPrefix makes a target a UUID, which Dragonboat insists on beside a custom
// node registry. The member's id follows as four and twelve hex digits.
const targetPrefix = "00000000-0000-0000-"

// Target is the string Dragonboat keeps for a member in its membership. It never
// changes, whatever address the member has.
func Target(member uint64) string {
	return fmt.Sprintf("%s%04x-%012x", targetPrefix, member>>48, member&(1<<48-1))
}

// ParseTarget returns the member a target stands for.
func ParseTarget(target string) (uint64, error) {
	digits, ok := strings.CutPrefix(target, targetPrefix)
	if !ok || len(digits) != 17 || digits[4] != '-' {
		return 0, fmt.Errorf("parse target %q: not the target of a member", target)
	}
	member, err := strconv.ParseUint(digits[:4]+digits[5:], 16, 64)
	if err != nil {
		return 0, fmt.Errorf("parse target %q: %w", target, err)
	}
	return member, nil
}

// Book is the address book: where each member listens for its peers now. It is
// also Dragonboat's node registry. It is safe for concurrent use.
type Book struct {
	mu struct {
		sync.RWMutex
		addrs map[uint64][]string
		// removed has, by replica, those that raft removed, and under allShards the members that were removed from the
		// cluster. Ids are never used twice.
		removed  map[raftio.NodeInfo]struct{}
		watchers map[int]func(member uint64)
		nextID   int
	}
}

// NewBook returns an empty book.
func NewBook() *Book {
	b := &Book{}
	b.mu.addrs = make(map[uint64][]string)
	b.mu.removed = make(map[raftio.NodeInfo]struct{})
	b.mu.watchers = make(map[int]func(uint64))
	return b
}

// Set says that member listens at addrs (host:port), tried in this order. An
// empty list forgets the member. The slice is copied.
func (b *Book) Set(member uint64, addrs []string) {
	b.mu.Lock()
	if slices.Equal(b.mu.addrs[member], addrs) {
		b.mu.Unlock()
		return
	}
	if len(addrs) == 0 {
		delete(b.mu.addrs, member)
	} else {
		b.mu.addrs[member] = slices.Clone(addrs)
	}
	b.mu.Unlock()
	b.tell(member)
}

// tell calls the watchers.
func (b *Book) tell(member uint64) {
	b.mu.RLock()
	watchers := slices.Collect(maps.Values(b.mu.watchers))
	b.mu.RUnlock()
	for _, f := range watchers {
		f(member)
	}
}

// allShards is in place of a shard, of which none has the number 0.
const allShards = 0

// Remove says that a member was removed for good: its connections end, and it is told so when it comes back. Raft says
// so itself of a removal that it applies, but not of one that is part of a snapshot.
func (b *Book) Remove(member uint64) {
	if b.remove(allShards, member) {
		b.tell(member)
	}
}

// remove notes that a replica was removed, and reports whether that is news.
func (b *Book) remove(shard, replica uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	gone := raftio.GetNodeInfo(shard, replica)
	_, known := b.mu.removed[gone]
	b.mu.removed[gone] = struct{}{}
	return !known
}

// Removed says whether the member was removed from the cluster, as far as this process has seen. Who has lost its
// replica of another shard than that of the members is a member still.
func (b *Book) Removed(member uint64) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.removedLocked(member)
}

func (b *Book) removedLocked(member uint64) bool {
	_, gone := b.mu.removed[raftio.GetNodeInfo(allShards, member)]
	return gone
}

// Addrs returns where member listens, nil when that is not known or the member was removed: nobody calls on it any
// more.
func (b *Book) Addrs(member uint64) []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.removedLocked(member) {
		return nil
	}
	return slices.Clone(b.mu.addrs[member])
}

// Members returns the ids of all members in the book in ascending order.
func (b *Book) Members() []uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	ids := make([]uint64, 0, len(b.mu.addrs))
	for id := range b.mu.addrs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// watch calls f with a member's id after each change of its addresses, until
// the returned function is called. f must not block.
func (b *Book) watch(f func(member uint64)) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.mu.nextID
	b.mu.nextID++
	b.mu.watchers[id] = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.mu.watchers, id)
	}
}

// RegistryFactory makes Dragonboat resolve replicas through the book. members is the shard whose members are those of
// the cluster: who is removed from it is removed for good.
func (b *Book) RegistryFactory(members uint64) config.NodeRegistryFactory {
	return registryFactory{b, members}
}

type registryFactory struct {
	book    *Book
	members uint64
}

func (f registryFactory) Create(string, uint64, config.TargetValidator) (raftio.INodeRegistry, error) {
	return registry(f), nil
}

// registry is the book as Dragonboat sees it. A replica's id is its member's id,
// so there is nothing to learn from Add; what was removed stays removed, since
// ids are never used twice.
type registry registryFactory

func (r registry) Close() error              { return nil }
func (r registry) Add(_, _ uint64, _ string) {}
func (r registry) RemoveShard(_ uint64)      {}

func (r registry) Remove(shard, replica uint64) {
	r.book.remove(shard, replica)
	if shard == r.members {
		r.book.Remove(replica)
	}
}

// Resolve returns the member's target both as its address and as the key of its
// send queue: all shards share one connection.
func (r registry) Resolve(shard, replica uint64) (string, string, error) {
	r.book.mu.RLock()
	defer r.book.mu.RUnlock()
	if _, gone := r.book.mu.removed[raftio.GetNodeInfo(shard, replica)]; gone {
		return "", "", fmt.Errorf("replica %x of shard %d was removed", replica, shard)
	}
	t := Target(replica)
	return t, t, nil
}

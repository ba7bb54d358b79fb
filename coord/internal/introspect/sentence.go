package introspect

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/objects"
)

// situation is what a sentence tells of.
type situation struct {
	queue *coordv1.QueueInfo
	// as is the kind that the queue is spoken of: etcd's clients use both alike.
	as coordv1.QueueKind
	// dead is the entry of a holder that died, while its place is kept.
	dead *coordv1.Entry
	// remainingMS is what the holder's session has left.
	remainingMS int64
	// placeMS is for how long the holder's place is kept when its session expires.
	placeMS int64
	// deadlock is a circle of sessions that the holder or a waiter is in; empty: there is none.
	deadlock []edge
	// nested is a key that stands deeper below the name: etcd's clients wait for it, ours do not.
	nested []byte
	// broken says why the queue grants nobody anything, and what mends it.
	broken string
}

// sentence says in one sentence who holds, since when, who waits and what would free it.
func (s *situation) sentence() string {
	parts := []string{s.subject() + " " + s.state(), s.waiting()}
	if end := s.end(); end != "" {
		parts = append(parts, end)
	}
	if len(s.deadlock) > 0 {
		parts = append(parts, s.circle())
	}
	if len(s.nested) > 0 {
		parts = append(parts, fmt.Sprintf("besides, etcd's own clients wait for the keys that stand deeper below it, "+
			"such as %q, and coord's do not", s.nested))
	}
	if s.broken != "" {
		parts = append(parts, s.broken)
	}
	return strings.Join(parts, "; ")
}

func (s *situation) election() bool {
	return s.as == coordv1.QueueKind_QUEUE_ELECTION || s.as == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION
}

// shared is what there is to say of a read-write lock; empty if nobody holds it.
func (s *situation) shared() string {
	h := s.queue.Holder
	if h == nil {
		return ""
	}
	switch others := s.queue.Holding - 1; {
	case h.Write:
		return fmt.Sprintf("is held for writing by %s with token %d since %s", s.holder(), h.Token, since(h))
	case others > 0:
		return fmt.Sprintf("is held for reading by %d, the oldest %s with token %d since %s", others+1, s.holder(),
			h.Token, since(h))
	}
	return fmt.Sprintf("is held for reading by %s with token %d since %s", s.holder(), h.Token, since(h))
}

func (s *situation) permits() string {
	info, h := s.queue.Semaphore, s.queue.Holder
	text := fmt.Sprintf("has %d of %d permits held", info.GetHeld(), info.GetLimit())
	switch {
	case info.GetLimit() == 0 && h == nil:
		return "has no limit"
	case h != nil:
		text += fmt.Sprintf(" by %d, the oldest %s with %d and token %d since %s", s.queue.Holding, s.holder(),
			h.Permits, h.Token, since(h))
	case s.dead != nil:
		text += fmt.Sprintf(", kept for %q (session %x) with token %d, who died", s.name(s.dead), s.dead.Lease,
			s.dead.Token)
	}
	return text
}

func (s *situation) parties() string {
	info, h := s.queue.Barrier, s.queue.Holder
	switch {
	case info.GetArrived() == 0:
		return fmt.Sprintf("is empty and was open %d times", info.GetGeneration())
	case !info.Open:
		return fmt.Sprintf("has %d of %d parties there and was open %d times", info.Arrived, info.Parties,
			info.Generation)
	case h == nil:
		return fmt.Sprintf("is open for the %d. time", info.Generation)
	}
	return fmt.Sprintf("is open for the %d. time, with %d of %d parties inside, the oldest %s with token %d since %s",
		info.Generation, info.Arrived, info.Parties, s.holder(), h.Token, since(h))
}

// exclusive is what there is to say of where one holds, or nobody.
func (s *situation) exclusive() string {
	switch {
	case s.dead != nil:
		return fmt.Sprintf("is kept for %q (session %x) with token %d since %s, who died", s.name(s.dead), s.dead.Lease,
			s.dead.Token, since(s.dead))
	case len(s.queue.Holder.GetForeignKey()) > 0:
		return fmt.Sprintf("is taken by %s; who acts by that key is not known here", objects.ForeignKey(s.queue.Holder))
	case s.queue.Holder == nil && len(s.nested) > 0 && s.election():
		return "has no leader among coord's clients"
	case s.queue.Holder == nil && len(s.nested) > 0:
		return "is held by none of coord's clients"
	case s.queue.Holder == nil && s.election():
		return "has no leader"
	case s.queue.Holder == nil && s.broken != "":
		return "is held by nobody"
	case s.queue.Holder == nil:
		return "is free"
	case s.election():
		return fmt.Sprintf("is led by %s in term %d since %s", s.holder(), s.queue.Holder.Token, since(s.queue.Holder))
	}
	return fmt.Sprintf("is held by %s with token %d since %s", s.holder(), s.queue.Holder.Token, since(s.queue.Holder))
}

// holder is who holds: as the entry says, and as its session does.
func (s *situation) holder() string {
	e := s.queue.Holder
	labels := maps.Clone(e.Labels)
	var about []string
	if id := s.queue.Identity; id != nil {
		about = append(about, field("host", id.Host), field("process", id.Process))
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, id.Labels)
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		about = append(about, field(k, labels[k]))
	}
	about = slices.DeleteFunc(append(about, s.session()), func(text string) bool { return text == "" })
	return fmt.Sprintf("%q (%s)", s.name(e), strings.Join(about, ", "))
}

// name is what an entry says of its owner.
func (s *situation) name(e *coordv1.Entry) string {
	if s.election() {
		return string(e.Value)
	}
	return e.Owner
}

func field(name, value string) string {
	if value == "" {
		return ""
	}
	return name + " " + strconv.Quote(value)
}

// session names the holder's session, or the lease of an etcd client.
func (s *situation) session() string {
	if s.queue.Identity == nil {
		return fmt.Sprintf("lease %x", s.queue.Holder.Lease)
	}
	return fmt.Sprintf("session %x", s.queue.Holder.Lease)
}

func since(e *coordv1.Entry) string {
	if e.SinceUnixMs == 0 {
		return "an unknown time"
	}
	return time.UnixMilli(e.SinceUnixMs).UTC().Format(time.RFC3339)
}

func (s *situation) waiting() string {
	switch n := s.queue.Waiting; n {
	case 0:
		return "nobody waits"
	case 1:
		return "1 waits"
	default:
		return fmt.Sprintf("%d wait", n)
	}
}

// end is what would free it; empty if it is free.
func (s *situation) end() string {
	words := s.wording()
	if words.end != nil {
		if said := words.end(s); said != "" {
			return said
		}
	}
	free := words.free
	if s.dead != nil {
		return fmt.Sprintf("%s in at most %s", free, duration(s.queue.LingerMs))
	}
	if s.queue.Holder == nil {
		return ""
	}
	if key := s.queue.Holder.ForeignKey; len(key) > 0 {
		return fmt.Sprintf("whoever put the key deletes it, or an operator by its full key: coordctl locks release %q "+
			"--entry %q --reason WHY", s.queue.Name, key)
	}
	verb := "a release"
	if s.election() {
		verb = "a resignation or a transfer"
	}
	text := fmt.Sprintf("%s by %s, or by the expiry of %s in at most %s unless it is renewed", free, verb, s.session(),
		duration(s.remainingMS))
	if s.placeMS > 0 {
		text += fmt.Sprintf(", and %s later", duration(s.placeMS))
	}
	return text
}

func (s *situation) circle() string {
	var steps []string
	for _, e := range s.deadlock {
		steps = append(steps, fmt.Sprintf("%x waits for %x (%q)", e.waiter, e.holder, e.name))
	}
	return "deadlock: " + strings.Join(steps, ", ")
}

// duration is milliseconds for people.
func duration(ms int64) string {
	return (time.Duration(max(ms, 0)) * time.Millisecond).String()
}

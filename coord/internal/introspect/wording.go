package introspect

import (
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// wording is what the sentence about a queue of one kind has of its own.
type wording struct {
	what string // it is, before its name
	// state says who holds; empty: what exclusive says.
	state func(*situation) string
	free  string // what happens when who holds is gone
	// end says what would free it, where that is not that somebody leaves; empty: it is.
	end func(*situation) string
}

// lock is the wording of what one holds at a time.
var lock = wording{what: "lock", free: "it becomes free"}

// wordings has a row for each kind with words of its own.
var wordings = map[coordv1.QueueKind]wording{
	coordv1.QueueKind_QUEUE_RWLOCK: {what: "read-write lock", free: lock.free, state: (*situation).shared},
	coordv1.QueueKind_QUEUE_SEMAPHORE: {
		what: "semaphore", free: "permits become free", state: (*situation).permits,
	},
	coordv1.QueueKind_QUEUE_BARRIER: {
		what: "barrier", free: lock.free, state: (*situation).parties, end: (*situation).opening,
	},
}

func (s *situation) wording() wording {
	if s.election() {
		return wording{what: "election", free: "it gets another leader"}
	}
	if w, own := wordings[s.queue.Kind]; own {
		return w
	}
	return lock
}

// subject is what the sentence is about.
func (s *situation) subject() string {
	subject := fmt.Sprintf("%s %q", s.wording().what, s.queue.Name)
	if s.queue.Kind == coordv1.QueueKind_QUEUE_PRIORITY_ELECTION {
		subject += " with priorities"
	}
	return subject
}

func (s *situation) state() string {
	if state := s.wording().state; state != nil {
		if said := state(s); said != "" {
			return said
		}
	}
	return s.exclusive()
}

// opening is what would free a barrier.
func (s *situation) opening() string {
	switch b := s.queue.Barrier; {
	case b.GetOpen():
		return "it can be entered again when all have left"
	case b.GetArrived() > 0:
		return fmt.Sprintf("it opens when %d more have come", b.Parties-b.Arrived)
	}
	return ""
}

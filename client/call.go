package client

import (
	"time"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// call is one request, from being asked to its outcome. Everything in it but done belongs to the transport's mutex.
type call struct {
	kind     coordv1.Kind
	body     []byte
	guards   []*coordv1.Guard
	quick    bool // a read that is answered soon
	box      *outbox
	sequence uint64

	waits     bool          // it is in the outbox's queue of what shall be sent
	sends     int           // how often it was sent
	at        time.Duration // on the clock, before it was sent last
	frame     uint64        // in its lane; 0: it was sent on no link that is left
	abandoned bool          // nobody waits: it is not sent again, unless it is stubborn
	stubborn  bool          // it is sent until there is an outcome, because it gives back what would block others
	pinned    bool          // not acknowledged before unpin, though there may be an outcome
	settled   bool          // there is an outcome
	pause     time.Duration // before it is sent again, if the server could not do it now

	// take is called with the outcome, under the transport's mutex, before anything that the server said later is
	// looked at.
	take func(*call)
	// The outcome: exactly one of both is set, once done has a value.
	response []byte
	err      error
	last     error // why it was sent again
	done     chan struct{}
}

// settle gives the call its outcome; the caller has taken it out of the outbox, unless it is pinned.
func (c *call) settle(response []byte, err error) {
	c.response, c.err, c.settled = response, err, true
	if c.take != nil {
		c.take(c)
	}
	if !c.abandoned {
		c.done <- struct{}{}
	}
}

// window is how far a sequence number may be ahead of what is acknowledged; the server allows more.
const window = 50_000

// outbox holds the requests of a session, or of none, that have no outcome yet.
type outbox struct {
	session *Session // nil: requests without a session
	// pending is by sequence number, beginning with acknowledged+1; nil where there is an outcome.
	pending      []*call
	acknowledged uint64
	told         uint64  // what the server was told of acknowledged
	queue        []*call // waits to be sent, in order; some may not wait any more
	listed       bool    // in the transport's list of outboxes that have something to send
}

// add gives c the next sequence number and queues it.
func (o *outbox) add(c *call) {
	o.pending = append(o.pending, c)
	c.box, c.sequence, c.waits = o, o.acknowledged+uint64(len(o.pending)), true
	o.queue = append(o.queue, c)
}

// find returns the call of a sequence number, nil if it has its outcome.
func (o *outbox) find(sequence uint64) *call {
	i := sequence - o.acknowledged - 1 // wraps around for what is acknowledged
	if i >= uint64(len(o.pending)) || o.pending[i] == nil || o.pending[i].settled {
		return nil
	}
	return o.pending[i]
}

// holds says whether c is still in the outbox.
func (o *outbox) holds(c *call) bool {
	i := c.sequence - o.acknowledged - 1
	return i < uint64(len(o.pending)) && o.pending[i] == c
}

// remove takes a call out: there is an outcome, or nobody wants one.
func (o *outbox) remove(c *call) {
	c.waits = false
	o.pending[c.sequence-o.acknowledged-1] = nil
	n := 0
	for n < len(o.pending) && o.pending[n] == nil {
		n++
	}
	o.acknowledged += uint64(n)
	o.pending = o.pending[n:]
}

// live are the calls without an outcome, in order.
func (o *outbox) live() []*call {
	var live []*call
	for _, c := range o.pending {
		if c != nil && !c.settled {
			live = append(live, c)
		}
	}
	return live
}

// mayGo says whether the window lets c go.
func (o *outbox) mayGo(c *call) bool {
	return o.session == nil || c.sequence <= o.acknowledged+window
}

// lane bounds the frames under way that carry requests of one sort, so that what comes meanwhile gathers and travels
// together: that is where the throughput comes from. There is no timer: a request that finds the lane free leaves at
// once.
type lane struct {
	waiting       int    // requests in queues
	sent, settled uint64 // frames; a frame is settled when anything of it, or of a later one, was answered
}

// Frames that carry little go while few are under way; beside more only those that carry much.
const (
	freeFrames = 2
	mostFrames = 8
	muchInOne  = 64 // requests
)

func (l *lane) mayGo() bool {
	inFlight := l.sent - l.settled
	return l.waiting > 0 && (inFlight < freeFrames || inFlight < mostFrames && l.waiting >= muchInOne)
}

func (l *lane) answered(frame uint64) { l.settled = max(l.settled, frame) }

// Lanes. What is not counted always goes: it is rare, or may take long to be answered and shall not hold up others.
const (
	laneWrites = iota // all requests of sessions
	laneReads         // short reads
	laneFree
	lanesCount
)

func laneOf(c *call) int {
	switch {
	case c.box.session != nil:
		return laneWrites
	case c.quick:
		return laneReads
	}
	return laneFree
}

// repeatable says whether a request without a session may run twice.
func repeatable(kind coordv1.Kind) bool { return kind != coordv1.Kind_KIND_COMPACT }

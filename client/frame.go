package client

import (
	"runtime"
	"time"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// maxFrame is how much a frame carries at least before the rest goes with the next, bytes: a frame is read as a whole
// before anything of it is done.
const maxFrame = 256 << 10

// write sends what there is to send until the link ends.
func (t *transport) write(l *link) {
	for {
		select {
		case <-t.kick:
		case <-l.ctx.Done():
			return
		}
		// Whoever is ready to run now may have a request for the same frame. Who is alone loses nothing.
		runtime.Gosched()
		for {
			frame := t.nextFrame(l)
			if frame == nil {
				break
			}
			if l.stream.Send(frame) != nil {
				return // the reader learns why
			}
		}
	}
}

// nextFrame collects what may go now; nil if nothing may.
func (t *transport) nextFrame(l *link) *coordv1.ClientFrame {
	t.lock()
	defer t.unlock()
	if t.mu.link != l {
		return nil
	}
	f := &coordv1.ClientFrame{}
	size, now := t.takeChannels(f), t.clock() // before it is sent: deadlines count from here
	if l.beat {
		l.beat = false
		l.heartbeats++
		l.beats = append(l.beats, beat{l.heartbeats, now})
		f.Heartbeat = l.heartbeats
	}
	size = t.takeCalls(f, size, now)
	if f.Heartbeat > 0 {
		t.takeAcknowledgements(f, size)
	}
	if len(f.Batches) == 0 && len(f.Channels) == 0 && f.Heartbeat == 0 {
		return nil
	}
	return f
}

// takeCalls puts queued requests into the frame, if the lanes let one go; then all travel along. It returns the frame's
// size.
func (t *transport) takeCalls(f *coordv1.ClientFrame, size int, now time.Duration) int {
	lanes := &t.mu.lanes
	if lanes[laneFree].waiting == 0 && !lanes[laneWrites].mayGo() && !lanes[laneReads].mayGo() {
		return size
	}
	var carries [lanesCount]bool
	for len(t.mu.ready) > 0 && size < maxFrame {
		o := t.mu.ready[0]
		batch := t.takeBatch(o, now, &size, &carries)
		if batch != nil {
			f.Batches = append(f.Batches, batch)
		}
		if size >= maxFrame && len(o.queue) > 0 && o.mayGo(o.queue[0]) {
			break // there is more of it for the next frame
		}
		o.listed = false
		t.mu.ready = t.mu.ready[1:]
	}
	for i := range carries {
		if carries[i] {
			lanes[i].sent++
		}
	}
	return size
}

// takeBatch takes requests from the front of an outbox, nil if it has none that may go.
func (t *transport) takeBatch(o *outbox, now time.Duration, size *int, carries *[lanesCount]bool) *coordv1.Batch {
	var b *coordv1.Batch
	n := 0
	for _, c := range o.queue {
		if !c.waits || c.box != o {
			n++
			continue
		}
		if *size >= maxFrame || !o.mayGo(c) {
			break
		}
		n++
		lane := laneOf(c)
		t.mu.lanes[lane].waiting--
		if limit := t.mu.link.welcome.MaxRequestBytes; limit > 0 && int64(len(c.body)) > limit {
			o.remove(c)
			c.settle(nil, errTooLarge)
			continue
		}
		if b == nil {
			b = o.newBatch()
		}
		carries[lane] = true
		c.waits, c.frame = false, t.mu.lanes[lane].sent+1
		c.sends++
		c.at = now
		b.Requests = append(b.Requests,
			&coordv1.Request{Sequence: c.sequence, Kind: c.kind, Body: c.body, Guards: c.guards})
		*size += len(c.body) + 16
	}
	o.queue = append(o.queue[:0], o.queue[n:]...)
	return b
}

// newBatch is a batch without requests yet, and tells what is acknowledged.
func (o *outbox) newBatch() *coordv1.Batch {
	if o.session == nil {
		return &coordv1.Batch{}
	}
	o.told = o.acknowledged
	return &coordv1.Batch{Session: o.session.id, Acknowledged: o.acknowledged}
}

// takeAcknowledgements lets idle sessions say what they acknowledge: the server keeps the outcomes until then. What
// does not fit goes with a later heartbeat.
func (t *transport) takeAcknowledgements(f *coordv1.ClientFrame, size int) {
	for _, s := range t.mu.sessions {
		if size >= maxFrame {
			return
		}
		if s.attached && s.box.told < s.box.acknowledged {
			f.Batches = append(f.Batches, s.box.newBatch())
			size += acknowledgementSize
		}
	}
}

// acknowledgementSize is that of a batch without requests, about.
const acknowledgementSize = 32

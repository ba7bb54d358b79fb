package watch

import "sync/atomic"

// Stats are the hub's figures at one moment.
type Stats struct {
	Streams       int64 // watch streams of clients
	Watchers      int64 // watchers of all streams, without cancelled and compacted ones
	Slow          int64 // of Watchers, those that are behind
	Subscriptions int64 // subscriptions inside the process
	Pending       int64 // events accepted for streams and not sent yet
	QueueBytes    int64 // events waiting for the hub, bytes

	Events    uint64 // events accepted for streams, total
	Overflows uint64 // batches dropped because the hub was overrun, total
}

// counters are written where things happen and read by Stats.
type counters struct {
	streams, watchers, slow, subscriptions, pending atomic.Int64
	events, overflows                               atomic.Uint64
}

// Stats reads the figures. It is cheap.
func (h *Hub) Stats() Stats {
	h.box.mu.Lock()
	queued := h.box.bytes
	h.box.mu.Unlock()
	return Stats{
		Streams:       h.count.streams.Load(),
		Watchers:      h.count.watchers.Load(),
		Slow:          h.count.slow.Load(),
		Subscriptions: h.count.subscriptions.Load(),
		Pending:       h.count.pending.Load(),
		QueueBytes:    int64(queued),
		Events:        h.count.events.Load(),
		Overflows:     h.count.overflows.Load(),
	}
}

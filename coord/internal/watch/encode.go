package watch

import (
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Merging saves work on both ends when a client is slower than the commits. A client that keeps up gets one response
// per revision, as from etcd; one that is behind gets several revisions at once, as from etcd.
const (
	mergeFrom = 32       // responses that must wait before any are merged
	maxMerged = 64 << 10 // size up to which responses are merged, bytes
)

// merge makes one response of the first n in list: those that follow each other with events for the same watcher,
// unless they may be cut.
func merge(list []response) (merged response, n int) {
	merged = list[0]
	for n = 1; n < len(list); n++ {
		next := &list[n]
		if next.id != merged.id || len(next.events) == 0 || len(merged.events) == 0 || merged.fragment ||
			merged.size+next.size > maxMerged {
			break
		}
		if n == 1 {
			merged.events = slices.Clone(merged.events) // the commit's own slice is shared
		}
		merged.events = append(merged.events, next.events...)
		merged.revision, merged.size = next.revision, merged.size+next.size
	}
	return merged, n
}

// send sends one response, in parts where the client asked for them and it is too large.
func (c *watchCall) send(r response) error {
	m := c.message(r)
	if !r.fragment || len(r.events) < 2 || proto.Size(m)+wireSize(r.events, r.prev) < c.opts.FragmentBytes {
		return c.hand(m, r.events, r.prev, r.size)
	}
	for events, rest := r.events, r.size; len(events) > 0; {
		part := c.message(r)
		part.Fragment = true
		n := fit(events, r.prev, c.opts.FragmentBytes-proto.Size(part))
		part.Fragment = n < len(events)
		size := wireSize(events[:n], r.prev)
		if !part.Fragment {
			size = rest
		}
		if err := c.hand(part, events[:n], r.prev, size); err != nil {
			return err
		}
		events, rest = events[n:], rest-size
	}
	return nil
}

// hand hands a message to gRPC, which counts size in the stream's buffer until it is written.
func (c *watchCall) hand(m *pb.WatchResponse, events []*event, prev bool, size int) error {
	c.stream.hand(size)
	if !c.transit.Follows() {
		defer c.written(size)
		setEvents(m, events, prev)
		return c.grpc.Send(m)
	}
	sent := c.transit.Message(int64(size), parts(m, events, prev)...)
	err := c.grpc.SendMsg(sent)
	sent.Handed(err)
	return err
}

// sharedPart is the size from which on an event's encoding is a part of its own of each message that has it; what is
// smaller is copied.
const sharedPart = 4 << 10

// parts are the encoding of m with events: the same bytes as with setEvents.
func parts(m *pb.WatchResponse, events []*event, prev bool) (list [][]byte) {
	copied := proto.Size(m)
	for _, e := range events {
		if n := len(e.wire(prev)); n < sharedPart {
			copied += n
		}
	}
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(make([]byte, 0, copied), m)
	if err != nil {
		panic(fmt.Sprintf("watch: encode a response: %v", err)) // its one string is valid UTF-8, see message
	}
	for _, e := range events {
		wire := e.wire(prev)
		if len(wire) < sharedPart {
			b = append(b, wire...)
			continue
		}
		if len(b) > 0 {
			list = append(list, b)
		}
		list, b = append(list, wire), b[len(b):]
	}
	if len(b) > 0 {
		list = append(list, b)
	}
	return list
}

// fit returns how many events, at least one, have fewer than limit bytes together.
func fit(events []*event, prev bool, limit int) int {
	n, size := 0, 0
	for n < len(events) {
		size += len(events[n].wire(prev))
		if n > 0 && size >= limit {
			break
		}
		n++
	}
	return n
}

// message makes the WatchResponse of r without its events.
func (c *watchCall) message(r response) *pb.WatchResponse {
	header := &pb.ResponseHeader{Revision: r.revision}
	c.opts.Header(header)
	return &pb.WatchResponse{
		Header:          header,
		WatchId:         r.id,
		Created:         r.created,
		Canceled:        r.canceled,
		CompactRevision: r.compacted,
		CancelReason:    strings.ToValidUTF8(r.reason, "\uFFFD"),
	}
}

// setEvents puts encoded events into m. They are given as unknown fields, which marshalling copies as they are to the
// end of the message; events is its last field, so the bytes are the same as those of m.Events.
func setEvents(m *pb.WatchResponse, events []*event, prev bool) {
	switch len(events) {
	case 0:
	case 1:
		m.ProtoReflect().SetUnknown(events[0].wire(prev))
	default:
		b := make([]byte, 0, wireSize(events, prev))
		for _, e := range events {
			b = append(b, e.wire(prev)...)
		}
		m.ProtoReflect().SetUnknown(b)
	}
}

func wireSize(events []*event, prev bool) int {
	n := 0
	for _, e := range events {
		n += len(e.wire(prev))
	}
	return n
}

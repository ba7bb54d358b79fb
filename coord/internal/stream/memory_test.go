package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-dev/coord/coord/internal/limit"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Where all streams together have too many requests without an answer, those that have more than their share wait, and
// the others go on.
func TestFlowSharesTheMembersRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := limit.NewPool("requests", 100_000, "")
		greedy, modest := newFlow(1000, 1<<30, pool.Holder()), newFlow(1000, 1<<30, pool.Holder())
		if !greedy.acquire(1, 50_000-requestOverhead) {
			t.Fatal("closed")
		}
		got := make(chan bool, 1)
		go func() { got <- greedy.acquire(1, 1) }()
		synctest.Wait()
		if len(got) > 0 {
			t.Error("the greedy stream did not wait")
		}
		if !modest.acquire(1, 20_000) {
			t.Error("closed")
		}
		modest.release(1, 20_000)
		synctest.Wait()
		if len(got) > 0 {
			t.Error("there is no room for the greedy stream's next")
		}
		greedy.release(1, 50_000-requestOverhead)
		if !<-got {
			t.Error("closed")
		}
		greedy.close()
		modest.close()
		if greedy.release(1, 1); pool.Used() != 0 {
			t.Errorf("%d bytes are left", pool.Used())
		}
	})
}

// A stream waits for others to give room back, too, though nothing of its own is under way.
func TestFlowHearsOfRoomElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := limit.NewPool("requests", 100_000, "")
		one, two := newFlow(1000, 1<<30, pool.Holder()), newFlow(1000, 1<<30, pool.Holder())
		one.acquire(1, 40_000)
		got := make(chan bool, 1)
		go func() { got <- two.acquire(1, 90_000) }()
		synctest.Wait()
		if len(got) > 0 {
			t.Error("it did not wait")
		}
		one.release(1, 40_000)
		if !<-got {
			t.Error("closed")
		}
		two.close()
		one.close()
	})
}

// A client that does not read is behind when all hold half of what the member may hold and it more than its share; it
// is given up in a second when that is exceeded, others never.
func TestOutboxesShareTheMembersRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := limit.NewPool("responses", 100_000, "")
		var ended []string
		slow := newOutbox(1<<30, pool.Holder(), time.Hour, func() { ended = append(ended, "slow") })
		quick := newOutbox(1<<30, pool.Holder(), time.Hour, func() { ended = append(ended, "quick") })
		say := func(o *outbox, bytes int) {
			o.channel(&coordv1.ChannelFrame{Id: 1, Messages: [][]byte{make([]byte, bytes)}})
		}
		say(slow, 60_000)
		say(quick, 1000)
		waits := func(o *outbox) chan bool {
			got := make(chan bool, 1)
			go func() { got <- o.wait() }()
			synctest.Wait()
			return got
		}
		if len(waits(quick)) == 0 {
			t.Error("the quick one waits")
		}
		held := waits(slow)
		if len(held) > 0 {
			t.Error("the slow one goes on")
		}
		time.Sleep(time.Minute)
		say(slow, 50_000)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(ended) != 1 || ended[0] != "slow" || len(held) > 0 {
			t.Errorf("ended %v", ended)
		}
		slow.close()
		if <-held {
			t.Error("not closed")
		}
		quick.close()
		if pool.Used() != 0 {
			t.Errorf("%d bytes are left", pool.Used())
		}
	})
}

// Small frames that wait behind a large one hold no more than they count, though what comes next is often as large as
// what came last.
func TestFramesThatWaitHoldWhatTheyCount(t *testing.T) {
	o := newOutbox(1<<30, nil, time.Hour, func() {})
	o.respond(5, 5, answer{1, make([]byte, 1<<20)})
	o.take()
	const frames = 100
	for range frames {
		o.respond(5, 5, answer{2, nil})
		o.push(&coordv1.Push{Session: 5}) // behind which the next one needs a frame of its own
	}
	room := 0
	for _, f := range o.mu.parts {
		room += cap(f.responses)
	}
	if waiting := len(o.mu.parts); waiting != frames || room > 2<<20 {
		t.Errorf("%d frames of few bytes hold %d bytes", waiting, room)
	}
}

// Who waits because of what others hold goes on when they hold less.
func TestOutboxHearsOfRoomElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := limit.NewPool("responses", 100_000, "")
		one := newOutbox(1<<30, pool.Holder(), time.Hour, func() {})
		two := pool.Holder()
		two.Force(45_000)
		one.channel(&coordv1.ChannelFrame{Id: 1, Messages: [][]byte{make([]byte, 30_000)}})
		got := make(chan bool, 1)
		go func() { got <- one.wait() }()
		synctest.Wait()
		if len(got) > 0 {
			t.Error("it goes on")
		}
		two.GiveAll()
		if !<-got {
			t.Error("closed")
		}
		one.close()
	})
}

// A channel whose client sends more than there is room for in all is ended with the reason; one of a stream within its
// share goes on.
func TestChannelsShareTheMembersRoom(t *testing.T) {
	st := &stream{server: &Server{}, out: newOutbox(1<<30, nil, time.Hour, func() {}), ctx: t.Context()}
	st.server.opts.Limits.Channels = 100
	st.channels.st = st
	pool := limit.NewPool("channels", 10*channelCost, "close some")
	st.channels.holder = pool.Holder()
	var all []*channel
	for id := range uint64(5) {
		c := newChannel(st, &coordv1.ChannelFrame{Id: id, Open: coordv1.ChannelKind_CHANNEL_LEASE_KEEP_ALIVE})
		if err := st.channels.add(c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if err := st.channels.add(newChannel(st, &coordv1.ChannelFrame{Id: 9})); err == nil {
		t.Error("a sixth of ten, with one holder")
	}
	other := &channels{st: st, holder: pool.Holder()}
	c := newChannel(st, &coordv1.ChannelFrame{Id: 1})
	if err := other.add(c); err != nil {
		t.Errorf("of another stream: %v", err)
	}
	if err := all[0].take(&coordv1.ChannelFrame{Messages: [][]byte{{}}}); err != nil || all[0].why == nil ||
		all[0].ctx.Err() == nil {
		t.Errorf("a message without room: %v, %v", err, all[0].why)
	}
	st.channels.remove(all[1])
	other.remove(c)
	if err := all[2].take(&coordv1.ChannelFrame{Messages: make([][]byte, 10)}); err != nil || all[2].why != nil {
		t.Errorf("a message with room: %v, %v", err, all[2].why)
	}
	if m, err := all[2].next(); m == nil || err != nil || all[2].taken != messageOverhead {
		t.Errorf("an empty message: %v, %v, %d taken", m, err, all[2].taken)
	}
	for _, c := range []*channel{all[0], all[2], all[3], all[4]} {
		st.channels.remove(c)
	}
	if pool.Used() != 0 {
		t.Errorf("%d bytes are left", pool.Used())
	}
}

package stream

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"

	"github.com/coord-dev/coord/coord/internal/propose"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/proto/wire"
	"github.com/coord-dev/coord/statemachine"
)

// item is a request that was taken and has to be answered.
type item struct {
	sequence uint64
	bytes    int
	recipe   *recipe // nil where nobody follows what it does
}

func (r *request) item() item { return item{sequence: r.Sequence, bytes: len(r.Raw)} }

// respond answers a request without a session. about is the session that it was about, if any.
func (st *stream) respond(i item, about int64, response []byte) {
	st.out.respond(0, about, answer{i.sequence, raftv1.EncodeOutcome(raftv1.OutcomeResponse, response)})
	st.flow.release(1, i.bytes)
}

// refuse answers a request without a session.
func (st *stream) refuse(i item, why *coordv1.Refusal) { st.refuseIn(0, i, why) }

func (st *stream) refuseIn(session int64, i item, why *coordv1.Refusal) {
	st.out.respond(session, session, answer{i.sequence, raftv1.EncodeOutcome(raftv1.OutcomeRefusal, encode(why))})
	st.flow.release(1, i.bytes)
}

// take hands the requests of a frame on. An error ends the stream.
func (st *stream) take(f *frame) error {
	var attach []*request
	for _, b := range f.batches {
		if own := st.server.opts.Shard; b.shard != 0 && b.shard != own {
			return broken("a batch of shard %d on a stream of shard %d", b.shard, own)
		}
		requests := f.requests[b.from:b.to]
		if b.session != 0 {
			if err := st.takeBatch(b, requests); err != nil {
				return err
			}
			continue
		}
		for i := range requests {
			if r := &requests[i]; r.Kind == coordv1.Kind_KIND_SESSION_ATTACH {
				attach = append(attach, r)
			} else {
				st.takeLone(r)
			}
		}
	}
	st.attach(attach)
	return nil
}

// takeLone hands on a request without a session.
func (st *stream) takeLone(r *request) {
	if r.Guards > 0 {
		st.refuse(r.item(), invalid("guards outside of a session"))
		return
	}
	if err := st.server.opts.Etcd.CheckSize(len(r.Body)); err != nil {
		st.refuse(r.item(), refusal(err))
		return
	}
	switch r.Kind {
	case coordv1.Kind_KIND_SESSION_OPEN:
		st.open(r)
	case coordv1.Kind_KIND_SESSION_END:
		st.endSession(r)
	case coordv1.Kind_KIND_COMPACT:
		st.compact(r)
	default:
		st.takeRead(r)
	}
}

// takeBatch proposes the requests of a session as one command, but for those that look at many keys: these must not
// keep the others waiting, nor stand in one entry of the log by the hundred.
func (st *stream) takeBatch(b batch, requests []request) error {
	for i := range requests {
		if requests[i].Sequence == 0 {
			return broken("a request of session %d has sequence number 0", b.session)
		}
	}
	st.mu.Lock()
	s := st.mu.sessions[b.session]
	fresh := s != nil && b.acknowledged > s.acknowledged
	if fresh {
		s.acknowledged = b.acknowledged
	}
	st.mu.Unlock()
	if s == nil {
		st.refuseForeign(b.session, requests)
		return nil
	}
	light, heavy := st.newCommands(s, b, requests)
	if len(light.items) > 0 || fresh {
		light.submit()
	}
	for _, c := range heavy {
		c.submit()
	}
	return nil
}

// refuseForeign refuses requests of a session that is not attached to the stream.
func (st *stream) refuseForeign(id int64, requests []request) {
	err := statemachine.ErrSessionNotFound
	if _, ok := st.server.opts.Backend.Session(id); ok {
		err = statemachine.ErrSessionElsewhere
	}
	for i := range requests {
		st.refuseIn(id, requests[i].item(), refusal(err))
	}
}

// command is a raftv1.Requests under way.
type command struct {
	st      *stream
	session *session
	items   []item
	body    []byte
	weight  int64
	frees   bool
}

// newCommands makes the commands of those requests that pass the checks; the others are refused. Those that are light
// are one.
func (st *stream) newCommands(s *session, b batch, requests []request) (light *command, heavy []*command) {
	light = st.newCommand(s, b, len(requests), size(requests))
	for i := range requests {
		r := &requests[i]
		item := r.item() // before the check, which may put another encoding into its place
		if refused := st.server.check(r); refused != nil {
			st.refuseIn(s.id, item, refused)
			continue
		}
		item.recipe = st.entries.prepare(s, r)
		c, weight := light, st.server.opts.Backend.Weigh(r.Kind, r.Body, item.recipe.removed())
		if weight > propose.LightWeight {
			frees := r.Kind == coordv1.Kind_KIND_RELEASE || r.Kind == coordv1.Kind_KIND_LEASE_REVOKE
			if n := len(heavy); n == 0 || heavy[n-1].weight+weight > propose.LaneWeight || heavy[n-1].frees != frees {
				heavy = append(heavy, st.newCommand(s, b, 1, len(r.Raw)))
			}
			c = heavy[len(heavy)-1]
			c.weight, c.frees = c.weight+weight, frees
		}
		c.items = append(c.items, item)
		c.body = wire.AppendBytes(c.body, 5, r.Raw)
	}
	return light, heavy
}

func (st *stream) newCommand(s *session, b batch, requests, bytes int) *command {
	c := &command{st: st, session: s, items: make([]item, 0, requests)}
	c.body = make([]byte, 0, 64+bytes+8*requests)
	c.body = wire.AppendVarint(c.body, 1, uint64(s.id))
	c.body = wire.AppendVarint(c.body, 2, s.created)
	c.body = wire.AppendVarint(c.body, 3, s.epoch)
	c.body = wire.AppendVarint(c.body, 4, b.acknowledged)
	c.body = wire.AppendVarint(c.body, 6, uint64(time.Now().UnixMilli()))
	return c
}

func (c *command) submit() { c.st.submitHeavy(raftv1.KindRequests, c.body, c.weight, c.frees, c.done) }

// done answers the requests. Nothing of a session follows the news that it is lost.
func (c *command) done(result statemachine.Result) {
	answers := c.answers(result)
	bytes := 0
	for _, i := range c.items {
		bytes += i.bytes
	}
	c.st.mu.Lock()
	if !c.session.lost && !c.st.mu.closed {
		c.st.out.respond(c.session.id, c.session.id, answers...)
	}
	c.st.mu.Unlock()
	for n, i := range c.items {
		if i.recipe != nil {
			c.st.entries.done(i.recipe, answers[n].outcome)
		}
	}
	c.st.flow.release(len(c.items), bytes)
}

func (c *command) answers(result statemachine.Result) []answer {
	answers := make([]answer, len(c.items))
	done, ok := result.Response.(statemachine.RequestsDone)
	if ok && len(done.Outcomes) == len(c.items) {
		for n, i := range c.items {
			answers[n] = answer{i.sequence, done.Outcomes[n]}
		}
		return answers
	}
	why := raftv1.EncodeOutcome(raftv1.OutcomeRefusal, encode(refusal(resultError(result))))
	for n, i := range c.items {
		answers[n] = answer{i.sequence, why}
	}
	return answers
}

// maxCompactions is how many compactions of a stream may be under way: each has a goroutine, as it may wait for long.
const maxCompactions = 16

func (st *stream) compact(r *request) {
	body, item := &pb.CompactionRequest{}, r.item()
	if refused := decode(r, body); refused != nil {
		st.refuse(item, refused)
		return
	}
	select {
	case st.compactions <- struct{}{}:
	default:
		st.refuse(item, refuse(coordv1.Error_REASON_TOO_MANY_REQUESTS, codes.ResourceExhausted, "too many compactions"))
		return
	}
	st.spawn(func() {
		defer func() { <-st.compactions }()
		response, err := st.server.opts.Etcd.Compact(st.ctx, body)
		if err != nil {
			st.refuse(item, refusal(err))
			return
		}
		st.respond(item, 0, encode(response))
	})
}

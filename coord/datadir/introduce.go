package datadir

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/recipes/guard"
)

const (
	// DefaultGrace is the default of Introduction.Grace.
	DefaultGrace = 3 * time.Second
	// DefaultRetry is the default of Introduction.Retry.
	DefaultRetry = 200 * time.Millisecond
	// askTimeout bounds one request to one peer.
	askTimeout = 5 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 1 << 20
	// patience is the time between two lines that say whom a member waits for.
	patience = 5 * time.Second
)

// A Peer is another member to be met.
type Peer struct {
	ID uint64
	// URLs are its peer URLs, tried in order.
	URLs []string
}

// Introduction says how a member makes itself known.
type Introduction struct {
	// Peers are all other members of the cluster, learners included.
	Peers []Peer
	// Client sends the requests; a plain one if nil.
	Client *http.Client
	// Grace is how long to wait for the remaining peers once a majority is there. Default DefaultGrace.
	Grace time.Duration
	// Retry is the time between two attempts to reach a peer. Default DefaultRetry.
	Retry time.Duration
}

func (in *Introduction) ensureDefaults() {
	if in.Client == nil {
		in.Client = &http.Client{}
	}
	if in.Grace == 0 {
		in.Grace = DefaultGrace
	}
	if in.Retry == 0 {
		in.Retry = DefaultRetry
	}
}

// Introduce admits a Fresh directory to Raft: it asks every peer whether the member may start, and then has its
// incarnation recorded. It waits without limit until a majority of the cluster, this member included, has answered, and
// for the others no longer than the grace time; who did not answer is to be met by Announce. If any peer refuses, the
// error (ErrWiped or ErrRefused) has the peer's reason, the directory stays Fresh, and the member must not start. The
// package doc says what this promises. A directory that is not Fresh is left as it is.
//
// This member's Handler must be served already: its peers may be waiting for it in the same way.
func (d *Dir) Introduce(ctx context.Context, in Introduction) error {
	if !d.Fresh() {
		return nil
	}
	in.ensureDefaults()
	enough := (len(in.Peers) + 1) / 2
	asked, err := d.meetPeers(ctx, in, enough, false)
	if err != nil {
		return err
	}
	in.Peers = slices.DeleteFunc(slices.Clone(in.Peers), func(p Peer) bool { return !asked[p.ID] })
	if _, err := d.meetPeers(ctx, in, enough, true); err != nil {
		return err
	}
	return d.admit()
}

// Announce makes a member that was admitted known to every peer, and learns whom they know. It returns nil when each
// has answered, and otherwise goes on until the context ends. ErrWiped or ErrRefused means that the member must stop: a
// peer knows it from another directory, or the cluster removed it.
func (d *Dir) Announce(ctx context.Context, in Introduction) error {
	in.ensureDefaults()
	_, err := d.meetPeers(ctx, in, len(in.Peers), true)
	return err
}

// meetPeers calls on all peers at once, again and again, until all have answered, or enough have and the grace time is
// over. It returns who answered.
func (d *Dir) meetPeers(ctx context.Context, in Introduction, enough int, record bool) (map[uint64]bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer cancel() // before the wait
	for _, p := range in.Peers {
		callers.Go(func() {
			guard.Loop(ctx, d.log, "introduction", func() { d.call(ctx, in, p, record, answers) })
		})
	}
	return d.gather(ctx, in, enough, answers)
}

// An answer is what came of one attempt to reach a peer.
type answer struct {
	peer Peer
	// err is nil, a refusal, or the reason why the peer could not be asked.
	err error
}

// call attempts to reach one peer until it has answered.
func (d *Dir) call(ctx context.Context, in Introduction, p Peer, record bool, answers chan<- answer) {
	for ctx.Err() == nil {
		err := d.ask(ctx, in, p, record)
		select {
		case answers <- answer{p, err}:
		case <-ctx.Done():
			return
		}
		if err == nil {
			return
		}
		select {
		case <-time.After(in.Retry):
		case <-ctx.Done():
			return
		}
	}
}

func (d *Dir) gather(ctx context.Context, in Introduction, enough int, answers <-chan answer) (map[uint64]bool, error) {
	met, silent := make(map[uint64]bool), make(map[uint64]error)
	report := time.NewTicker(patience)
	defer report.Stop()
	var grace <-chan time.Time
	for len(met) < len(in.Peers) {
		if len(met) >= enough && grace == nil {
			grace = time.After(in.Grace)
		}
		select {
		case a := <-answers:
			if isRefusal(a.err) {
				return nil, a.err
			}
			note(a, met, silent)
		case <-report.C:
			d.log.Info("waiting for other members to answer", zap.Int("answered", len(met)), zap.Int("enough", enough), zap.String("silent", describe(silent)))
		case <-grace:
			d.log.Warn("starting before every other member has answered", zap.String("silent", describe(silent)))
			return met, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for other members to answer (silent: %s): %w", describe(silent), ctx.Err())
		}
	}
	return met, nil
}

func note(a answer, met map[uint64]bool, silent map[uint64]error) {
	if a.err != nil {
		silent[a.peer.ID] = a.err
		return
	}
	met[a.peer.ID] = true
	delete(silent, a.peer.ID)
}

func isRefusal(err error) bool { return errors.Is(err, ErrWiped) || errors.Is(err, ErrRefused) }

func describe(silent map[uint64]error) string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(silent)) {
		parts = append(parts, fmt.Sprintf("%s: %v", hexID(id), silent[id]))
	}
	return strings.Join(parts, "; ")
}

// ask introduces this member to one peer, by the first of its URLs that answers, and remembers who answered.
func (d *Dir) ask(ctx context.Context, in Introduction, p Peer, record bool) error {
	err := fmt.Errorf("member %s has no peer URL", hexID(p.ID))
	for _, u := range p.URLs {
		var got acquaintance
		got, err = d.post(ctx, in.Client, u, record)
		if err == nil {
			return d.remember(p, u, got, record)
		}
		if isRefusal(err) {
			return err
		}
	}
	return err
}

// remember records the peer that answered and all it knows, unless this is only a question.
func (d *Dir) remember(p Peer, url string, got acquaintance, record bool) error {
	if uint64(got.MemberID) != p.ID {
		return fmt.Errorf("%s is member %s, not %s", url, got.MemberID, hexID(p.ID))
	}
	if known, met := d.peer(p.ID); met && known != got.Incarnation {
		// It is the peer that was wiped and must not start. This member only does not count its answer.
		return fmt.Errorf("answer of %s not accepted: %v", url, d.checkPeer(hexID(p.ID), known, got.Incarnation))
	}
	if !record {
		return nil
	}
	if err := d.NotePeer(p.ID, uint64(got.Incarnation)); err != nil {
		return fmt.Errorf("answer of %s not accepted: %v", url, err)
	}
	return d.learn(got.Peers)
}

// post sends one introduction. A refusal by the peer is an error of its kind.
func (d *Dir) post(ctx context.Context, client *http.Client, url string, record bool) (got acquaintance, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m := d.current()
	body, err := json.Marshal(introduction{ClusterID: m.ClusterID, MemberID: m.MemberID, Incarnation: m.Incarnation, Fresh: !m.Admitted, Record: record})
	if err != nil {
		return got, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+introducePath, bytes.NewReader(body))
	if err != nil {
		return got, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, answer, err := send(client, req)
	switch {
	case err != nil:
		return got, err
	case resp.StatusCode == http.StatusConflict:
		return got, d.refusedBy(url, resp.Header.Get(refusalHeader), answer)
	case resp.StatusCode != http.StatusOK:
		return got, fmt.Errorf("%s answered %s: %s", url, resp.Status, oneLine(answer))
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return got, fmt.Errorf("%s answered something else than a member of coord does: %w", url, err)
	}
	return got, nil
}

func (d *Dir) refusedBy(url, why string, reason []byte) error {
	kind := ErrRefused
	if why == refusedWiped {
		kind = ErrWiped
	}
	return refuse(kind, "member %s must not start from data directory %q: the member at %s says: %s", d.current().MemberID, d.path, url, oneLine(reason))
}

// send does a request and returns the answer, whose body is read and closed, and the body.
func send(client *http.Client, req *http.Request) (*http.Response, []byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp, b, err
}

func oneLine(b []byte) string { return strings.Join(strings.Fields(string(b)), " ") }

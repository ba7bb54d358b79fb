package datadir

import (
	"context"
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

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/handshake"
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
// for the others no longer than the grace time; who did not answer meets this member when raft first connects the two.
// If any peer of this cluster refuses, the error (ErrWiped or ErrRefused) has the peer's reason, the directory stays
// Fresh, and the member must not start. What answers for another cluster or another member is waited for like one that
// is silent. The package doc says what this promises. A directory that is not Fresh is left as it is.
//
// This member's Handler must be served already: its peers may be waiting for it in the same way.
func (d *Dir) Introduce(ctx context.Context, in Introduction) error {
	if !d.Fresh() {
		return nil
	}
	in.ensureDefaults()
	enough := (len(in.Peers) + 1) / 2
	asked, err := d.meetPeers(ctx, in, enough, handshake.Ask)
	if err != nil {
		return err
	}
	in.Peers = slices.DeleteFunc(slices.Clone(in.Peers), func(p Peer) bool { return !asked[p.ID] })
	if _, err := d.meetPeers(ctx, in, enough, handshake.Introduce); err != nil {
		return err
	}
	return d.admit()
}

// meetPeers calls on all peers at once, again and again, until all have answered, or enough have and the grace time is
// over. It returns who answered.
func (d *Dir) meetPeers(
	ctx context.Context, in Introduction, enough int, purpose handshake.Purpose,
) (map[uint64]bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer cancel() // before the wait
	for _, p := range in.Peers {
		callers.Go(func() {
			guard.Loop(ctx, d.log, "introduction", func() { d.call(ctx, in, p, purpose, answers) })
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
func (d *Dir) call(ctx context.Context, in Introduction, p Peer, purpose handshake.Purpose, answers chan<- answer) {
	for ctx.Err() == nil {
		err := d.ask(ctx, in, p, purpose)
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
			d.log.Warn("waiting for other members to answer", zap.Int("answered", len(met)), zap.Int("enough", enough),
				zap.String("silent", describe(silent)))
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

// ask introduces this member to one peer, by the first of its URLs that answers.
func (d *Dir) ask(ctx context.Context, in Introduction, p Peer, purpose handshake.Purpose) error {
	err := fmt.Errorf("member %s has no peer URL", hexID(p.ID))
	for _, u := range p.URLs {
		err = d.askAt(ctx, in.Client, u, p, purpose)
		if err == nil || isRefusal(err) {
			return err
		}
	}
	return err
}

// askAt introduces this member to the peer at url. A refusal that counts is an error of its kind.
func (d *Dir) askAt(ctx context.Context, client *http.Client, url string, p Peer, purpose handshake.Purpose) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	rw, err := upgrade(ctx, client, url)
	if err != nil {
		return err
	}
	defer rw.Close()
	defer context.AfterFunc(ctx, func() { rw.Close() })()
	theirs, err := handshake.Dial(rw, d.party(Cluster{}), purpose, p.ID)
	var refused *handshake.RefusedError
	if errors.As(err, &refused) {
		return d.weigh(url, theirs, refused)
	}
	if err != nil {
		return fmt.Errorf("%s answered something else than a member of coord does: %w", url, err)
	}
	return nil
}

// upgrade makes a connection to the peer port at url one for a handshake.
func upgrade(ctx context.Context, client *http.Client, url string) (io.ReadWriteCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+introducePath, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	rw, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != protocol || !ok {
		defer resp.Body.Close()
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return nil, fmt.Errorf("%s answered %s: %s", url, resp.Status, oneLine(answer))
	}
	return rw, nil
}

// weigh tells a refusal that is final for a new directory from an answer that does not count. It takes a peer's word
// without a proof, which it has no means to check: the worst is a member that does not start.
func (d *Dir) weigh(url string, theirs handshake.Hello, r *handshake.RefusedError) error {
	itself := theirs.Member == d.Identity().MemberID
	switch {
	case itself && !theirs.Fresh && r.Kind == handshake.Refused:
		return d.refusedBy(url, ErrRefused, fmt.Sprintf("this is member %x itself, and it has been started: two "+
			"members must not share a peer URL", theirs.Member))
	case r.Local && r.Kind == handshake.Wiped:
		// It is the peer that was wiped and must not start. This member only does not count its answer.
		return fmt.Errorf("answer of %s not accepted: %s", url, r.Reason)
	case r.Local, itself:
		return fmt.Errorf("%s is not the member that the flags say it is: %s", url, r.Reason)
	case r.Kind == handshake.Wiped:
		return d.refusedBy(url, ErrWiped, r.Reason)
	case r.Kind == handshake.Removed || r.Kind == handshake.Copy || r.Kind == handshake.Refused:
		return d.refusedBy(url, ErrRefused, r.Reason)
	}
	return fmt.Errorf("%s answered: %s", url, r.Reason)
}

func (d *Dir) refusedBy(url string, kind error, reason string) error {
	return refuse(kind, "member %s must not start from data directory %q: the member at %s says: %s",
		d.current().MemberID, d.path, url, reason)
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

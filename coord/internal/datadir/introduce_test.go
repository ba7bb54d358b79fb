package datadir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A testPeer is one member: a directory and the server of its peer port, which answers 502 while the member is down.
type testPeer struct {
	id  uint64
	url string
	dir string

	mu      sync.Mutex
	d       *Dir
	handler http.Handler // nil while the member is down
}

func (p *testPeer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	h := p.handler
	p.mu.Unlock()
	if h == nil {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	h.ServeHTTP(w, r)
}

// A testCluster is the members of one cluster and what all of them know of it.
type testCluster struct {
	t      *testing.T
	peers  []*testPeer
	client *http.Client
	grace  time.Duration

	mu      sync.Mutex
	members []Member
	removed map[uint64]bool
}

func newTestCluster(t *testing.T, size int) *testCluster {
	c := &testCluster{
		t: t, client: &http.Client{
			Transport: &http.Transport{DisableKeepAlives: true},
		}, grace: 50 * time.Millisecond, removed: map[uint64]bool{},
	}
	for i := range size {
		p := &testPeer{id: uint64(0xa1 + i), dir: t.TempDir()}
		server := httptest.NewServer(p)
		t.Cleanup(server.Close)
		p.url = server.URL
		c.peers = append(c.peers, p)
		c.members = append(c.members, Member{ID: p.id, PeerURLs: []string{p.url}})
	}
	return c
}

func (c *testCluster) view() Cluster {
	return Cluster{
		Members: func() []Member {
			c.mu.Lock()
			defer c.mu.Unlock()
			return slices.Clone(c.members)
		},
		Removed: func(id uint64) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.removed[id]
		},
	}
}

// publish makes a member appear as started at all others.
func (c *testCluster) publish(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[i].Name, c.members[i].ClientURLs = fmt.Sprintf("m%d", i), []string{"http://127.0.0.1:2379"}
}

func (c *testCluster) introduction(i int) Introduction {
	in := Introduction{Client: c.client, Grace: c.grace, Retry: 5 * time.Millisecond}
	for j, p := range c.peers {
		if j != i {
			in.Peers = append(in.Peers, Peer{ID: p.id, URLs: []string{"http://127.0.0.1:1", p.url}})
		}
	}
	return in
}

// start opens a member's directory and serves its handler.
func (c *testCluster) start(i int) *Dir {
	c.t.Helper()
	p := c.peers[i]
	d, err := Open(options(p.dir))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { d.Close() })
	if d.Fresh() {
		if err := d.Init(Identity{ClusterID: 0xc1, MemberID: p.id}); err != nil {
			c.t.Fatal(err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.d, p.handler = d, d.Handler(c.view())
	return d
}

func (c *testCluster) stop(i int) {
	p := c.peers[i]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.d.Close()
	p.handler = nil
}

// wipe stops a member and empties its directory.
func (c *testCluster) wipe(i int) {
	c.stop(i)
	remove(c.t, filepath.Join(c.peers[i].dir, "member"))
}

// introduce runs Introduce of several members at once and fails the test if one is not admitted.
func (c *testCluster) introduce(members ...int) {
	c.t.Helper()
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for k, i := range members {
		all.Go(func() { errs[k] = c.peers[i].d.Introduce(c.t.Context(), c.introduction(i)) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatal(err)
	}
}

// wantRefused introduces a member that must be refused, by the member at url, with this reason.
func (c *testCluster) wantRefused(i int, kind error, url, reason string) {
	c.t.Helper()
	d := c.peers[i].d
	err := d.Introduce(c.t.Context(), c.introduction(i))
	want := fmt.Sprintf("member %s must not start from data directory %q: the member at %s says: %s",
		hexID(c.peers[i].id), c.peers[i].dir, url, reason)
	if err == nil || err.Error() != want {
		c.t.Errorf("error is\n%v, want\n%s", err, want)
	}
	if !errors.Is(err, kind) || !d.Fresh() {
		c.t.Errorf("kind of error is %T, fresh %v", err, d.Fresh())
	}
}

// knows reports whether one member recorded another's present incarnation.
func (c *testCluster) knows(i, j int) bool {
	known, met := c.peers[i].d.PeerRecords(Cluster{}).Known(c.peers[j].id)
	return met && known.Equal(c.peers[j].d.Incarnation())
}

func TestFoundingMembersMeetAtTheSameTime(t *testing.T) {
	c := newTestCluster(t, 5)
	c.grace = time.Minute
	for i := range 5 {
		c.start(i)
	}
	c.introduce(0, 1, 2, 3, 4)
	for i := range 5 {
		for j := range 5 {
			if i != j && !c.knows(i, j) {
				t.Errorf("member %d does not know member %d", i, j)
			}
		}
		if c.peers[i].d.Fresh() {
			t.Errorf("member %d was not admitted", i)
		}
	}
}

// neverAdmits introduces a member for some time, until it says why that fails: a slow machine may need more than one
// attempt.
func (c *testCluster) neverAdmits(i int, why string) {
	c.t.Helper()
	for wait := 6 * c.grace; ; wait *= 4 {
		ctx, cancel := context.WithTimeout(c.t.Context(), wait)
		err := c.peers[i].d.Introduce(ctx, c.introduction(i))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			c.t.Fatalf("introduced: %v", err)
		}
		if strings.Contains(err.Error(), why) {
			return
		}
		if wait > time.Minute {
			c.t.Fatalf("not admitted because of %v, want %q", err, why)
		}
	}
}

func TestWaitsForAMajority(t *testing.T) {
	c := newTestCluster(t, 5)
	for i := range 2 {
		c.start(i)
	}
	c.neverAdmits(0, "a5: "+c.peers[4].url+" answered 502 Bad Gateway: down")
	if !c.peers[0].d.Fresh() {
		t.Error("admitted without a majority")
	}
	c.start(2)
	c.introduce(0, 1, 2)
	if c.peers[0].d.Fresh() {
		t.Error("not admitted by a majority")
	}
}

func TestWipedMemberIsRefused(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	c.introduce(0, 1, 2)
	old := c.peers[0].d.Incarnation()
	c.wipe(0)
	c.stop(2)
	for range 2 { // a second attempt is refused as well
		d := c.start(0)
		if old == d.Incarnation() {
			t.Fatal("a wiped directory got its old incarnation")
		}
		c.wantRefused(0, ErrWiped, c.peers[1].url, fmt.Sprintf("member a1 has incarnation %s but was known as %s: its "+
			"data directory was wiped or replaced; %s", d.Incarnation(), old, fix))
		c.stop(0)
	}
}

// TestWipedMemberIsRefusedBySomeoneWhoOnlyHeardOfIt: the only member that is up was down when the wiped one was new.
func TestWipedMemberIsRefusedBySomeoneWhoOnlyHeardOfIt(t *testing.T) {
	c := newTestCluster(t, 3)
	c.start(0)
	c.start(1)
	c.introduce(0, 1)
	c.stop(0)
	c.start(2)
	c.introduce(2) // meets only 1, which tells of 0
	c.stop(1)
	c.wipe(0)
	d := c.start(0)
	err := d.Introduce(t.Context(), c.introduction(0))
	if !errors.Is(err, ErrWiped) || !strings.Contains(err.Error(), "the member at "+c.peers[2].url+" says: ") {
		t.Errorf("error is %v", err)
	}
}

// TestWipedMemberIsRefusedByWhatItPublished: the peer that is up never heard of the member's incarnation.
func TestWipedMemberIsRefusedByWhatItPublished(t *testing.T) {
	c := newTestCluster(t, 3)
	c.start(0)
	c.start(1)
	c.introduce(0, 1)
	c.publish(0)
	c.wipe(0)
	if err := c.peers[1].d.ForgetPeer(c.peers[0].id); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	c.wantRefused(0, ErrWiped, c.peers[1].url, "member a1 (m0) has already been bootstrapped and this data directory "+
		"is new: its data directory was wiped or replaced; "+fix)
}

// TestOneRefusalCountsAndLeavesNoTrace: a peer that knows nothing would let the wiped member in, another one knows
// more.
func TestOneRefusalCountsAndLeavesNoTrace(t *testing.T) {
	c := newTestCluster(t, 3)
	c.start(0)
	c.start(1)
	c.introduce(0, 1)
	c.wipe(0)
	c.start(0)
	c.start(2)
	c.grace = time.Minute
	if err := c.peers[0].d.Introduce(t.Context(), c.introduction(0)); !errors.Is(err, ErrWiped) {
		t.Errorf("error is %v", err)
	}
	if known, met := c.peers[2].d.peer(c.peers[0].id); met {
		t.Errorf("a refused member left its incarnation %s behind", known.Fingerprint)
	}
}

func TestRestartNeedsNobody(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	c.introduce(0, 1, 2)
	for i := range 3 {
		c.publish(i)
		c.stop(i)
	}
	d := c.start(0)
	if err := d.Introduce(t.Context(), c.introduction(0)); err != nil || d.Fresh() {
		t.Errorf("a restart alone: %v, fresh %v", err, d.Fresh())
	}
}

func TestOtherRefusals(t *testing.T) {
	c := newTestCluster(t, 2)
	c.start(0)
	c.start(1)
	c.removed[c.peers[0].id] = true
	c.wantRefused(0, ErrRefused, c.peers[1].url, "member a1 was removed from the cluster and its ID cannot return: "+
		"add it again as a learner under a new ID with an empty data directory, then promote it")
	c.removed[c.peers[0].id] = false

	if err := c.peers[0].d.Init(Identity{ClusterID: 0xc2, MemberID: 0xa1}); err != nil {
		t.Fatal(err)
	}
	c.neverAdmits(0, "this is a member of cluster c2, not of cluster c1: compare --initial-cluster and "+
		"--initial-cluster-token of the members")

	if err := c.peers[0].d.Init(Identity{ClusterID: 0xc1, MemberID: 0xa2}); err != nil {
		t.Fatal(err)
	}
	c.neverAdmits(0, "this is member a2 itself: two members must not share a peer URL")
	if err := c.peers[1].d.admit(); err != nil {
		t.Fatal(err)
	}
	c.peers[0].id = 0xa2
	c.wantRefused(0, ErrRefused, c.peers[1].url, "this is member a2 itself, and it has been started: two members must "+
		"not share a peer URL")
}

// TestAddedMemberWaitsUntilItIsKnown: the cluster's members learn of an added member at different times.
func TestAddedMemberWaitsUntilItIsKnown(t *testing.T) {
	c := newTestCluster(t, 2)
	c.start(0)
	c.start(1)
	all := c.members
	c.members = c.members[1:]
	done := make(chan error)
	go func() { done <- c.peers[0].d.Introduce(t.Context(), c.introduction(0)) }()
	select {
	case err := <-done:
		t.Fatalf("admitted before it was known: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	c.mu.Lock()
	c.members = all
	c.mu.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWipedPeersAnswerDoesNotCount: a member that lost its directory cannot vouch for others.
func TestWipedPeersAnswerDoesNotCount(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 2 {
		c.start(i)
	}
	if err := record(c.peers[0].d, c.peers[1].id, 0x1234); err != nil {
		t.Fatal(err)
	}
	c.neverAdmits(0, "answer of "+c.peers[1].url+" not accepted: member a2 has incarnation ")
}

// TestWipedPeerDoesNotKeepOthersOut: the wiped member's answer counts neither as a yes nor for good.
func TestWipedPeerDoesNotKeepOthersOut(t *testing.T) {
	c := newTestCluster(t, 3)
	c.start(0)
	c.start(1)
	if err := record(c.peers[0].d, c.peers[1].id, 0x1234); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error)
	go func() { done <- c.peers[0].d.Introduce(ctx, c.introduction(0)) }()
	time.Sleep(4 * c.grace) // if the wiped one counted as a yes, the grace time would be over
	c.start(2)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHandlerRefusesBadRequests(t *testing.T) {
	d := admitted(t, options(t.TempDir()), testIdentity)
	h := d.Handler(Cluster{Members: func() []Member { return nil }, Removed: func(uint64) bool { return false }})
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/coord/introduce", 405},
		{"POST", "/members", 405},
		{"GET", "/other", 404},
		{"GET", "/coord/introduce", 426},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, nil))
		if w.Code != tc.status {
			t.Errorf("%s %s answered %d %s, want %d", tc.method, tc.path, w.Code, w.Body, tc.status)
		}
	}
	if len(d.current().Peers) > 0 {
		t.Errorf("bad requests were recorded: %v", d.current().Peers)
	}
}

func TestMembersHaveEtcdsShape(t *testing.T) {
	d := admitted(t, options(t.TempDir()), testIdentity)
	members := []Member{{
		ID: 10276657743932975437, PeerURLs: []string{"http://h:1"}, IsLearner: true, Name: "n",
		ClientURLs: []string{"http://h:2"},
	}, {ID: 1, PeerURLs: []string{"http://h:3"}}}
	w := httptest.NewRecorder()
	d.Handler(Cluster{Members: func() []Member { return members }}).ServeHTTP(w, httptest.NewRequest("GET", "/members",
		nil))
	want := `[{"id":10276657743932975437,"peerURLs":["http://h:1"],"isLearner":true,"name":"n","clientURLs":["http://h:2"]},{"id":1,"peerURLs":["http://h:3"]}]` + "\n"
	if w.Body.String() != want || w.Header().Get("X-Etcd-Cluster-ID") != "c1" ||
		w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("answer is %v %s, want %s", w.Header(), w.Body, want)
	}
	var again []Member
	if err := json.Unmarshal(w.Body.Bytes(), &again); err != nil || again[0].ID != members[0].ID {
		t.Errorf("read back as %+v, %v", again, err)
	}
}

func TestJoinExisting(t *testing.T) {
	c := newTestCluster(t, 3)
	c.start(0)
	c.start(1)
	c.publish(0)
	c.publish(1)
	named := [][]string{{c.peers[0].url}, {c.peers[1].url}, {c.peers[2].url}}
	o := JoinOptions{
		Peers: []string{"http://127.0.0.1:1", c.peers[1].url}, PeerURLs: []string{c.peers[2].url},
		InitialCluster: named, Client: c.client, Logger: zap.NewNop(),
	}
	j, err := JoinExisting(t.Context(), o)
	if err != nil || j.ClusterID != 0xc1 || j.MemberID != 0xa3 || len(j.Members) != 3 {
		t.Errorf("joined %+v, %v", j, err)
	}
	fails := func(want string, change func(*JoinOptions)) {
		t.Helper()
		o := o
		change(&o)
		if _, err := JoinExisting(t.Context(), o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error is\n%v, want\n%s", err, want)
		}
	}
	fails("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs (",
		func(o *JoinOptions) { o.Peers = o.Peers[:1] })
	fails("error validating peerURLs: member count is unequal: the cluster has 3 members, a1 (m0, "+c.peers[0].url+
		"), ", func(o *JoinOptions) { o.InitialCluster = named[1:] })
	fails(fmt.Sprintf("error validating peerURLs: no match found for existing member (a1, [%s]) in --initial-cluster",
		c.peers[0].url), func(o *JoinOptions) { o.InitialCluster = [][]string{{"http://h:1"}, named[1], named[2]} })
	fails("unmatched member while checking PeerURLs: the cluster has no member with peer URLs http://h:1, its members "+
		"are a1 (m0, ", func(o *JoinOptions) { o.PeerURLs = []string{"http://h:1"} })
	fails("member a2 (m1) has already been bootstrapped and this data directory is empty: its data directory was "+
		"wiped or replaced"+fixText, func(o *JoinOptions) { o.PeerURLs = []string{c.peers[1].url} })
}

func TestJoinFromSomethingElse(t *testing.T) {
	for name, tc := range map[string]struct {
		header, body, want string
	}{
		"no cluster": {"", "[]", "did not say which cluster it belongs to"},
		"no members": {"c1", "[]", "knows no members"},
		"no JSON":    {"c1", "<html>", "did not answer with members"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Etcd-Cluster-ID", tc.header)
				fmt.Fprint(w, tc.body)
			}))
			defer server.Close()
			_, err := JoinExisting(t.Context(), JoinOptions{
				Peers: []string{server.URL}, Client: server.Client(), Logger: zap.NewNop(),
			})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %s", err, tc.want)
			}
		})
	}
}

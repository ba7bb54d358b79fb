package crashtest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHostileReusedAddress: a member is dead, and somebody else has its address by now. Another one restarts, and must
// not take the stranger's word for that of its cluster: without it there is no quorum.
func TestHostileReusedAddress(t *testing.T) {
	c := startCluster(t, 3)
	dead, restarted := c.members[2], c.members[0]
	cli := c.dial()
	for _, stranger := range []struct {
		what string
		run  func(t *testing.T) (stop func())
	}{
		{"a member of another cluster", func(t *testing.T) func() {
			m := layOut(t, 1).members[0]
			m.peer, m.initial, m.flags = dead.peer, "m0=http://"+dead.peer, []string{"--initial-cluster-token=other"}
			m.start(c.t)
			m.waitReady(t)
			return m.kill
		}},
		{"who refuses everything over HTTP", func(t *testing.T) func() {
			return serveAt(t, dead.peer, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Coord-Refusal", "wiped")
				http.Error(w, "your data directory was wiped", http.StatusConflict)
			})
		}},
		{"who answers garbage", func(t *testing.T) func() {
			l := listenAt(t, dead.peer)
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Write(bytes.Repeat([]byte{0xc0, 'C', 'R', 2, 0xff, 0x01}, 100))
					conn.Close()
				}
			}()
			return func() { l.Close() }
		}},
	} {
		t.Run(stranger.what, func(t *testing.T) {
			dead.kill()
			restarted.kill()
			stop := stranger.run(t)
			restarted.start(c.t) // which lives on after this part of the test
			restarted.waitReady(t)
			if _, err := cli.Put(within(t, patience), "k", stranger.what); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second) // two refusals by the stranger, which come once a second
			if !restarted.running() || !c.members[1].running() {
				t.Error("a stranger's answer ended a member")
			}
			stop()
			dead.start(c.t)
			dead.waitReady(t)
		})
	}
	c.checkEqual()
}

// listenAt listens where a member did a moment ago.
func listenAt(t *testing.T, addr string) net.Listener {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			t.Cleanup(func() { l.Close() })
			return l
		}
		if time.Since(begin) > patience {
			t.Fatal(err)
		}
	}
}

func serveAt(t *testing.T, addr string, f http.HandlerFunc) (stop func()) {
	l := listenAt(t, addr)
	server := &http.Server{Handler: f}
	go server.Serve(l)
	return func() { server.Close() }
}

// TestHostileTokenBesideFounders: one of three new members was given another token. It stops nobody and is not let in;
// the other two found the cluster, and the third joins them when its flags are right.
func TestHostileTokenBesideFounders(t *testing.T) {
	c := layOut(t, 3)
	wrong := c.members[2]
	wrong.flags = []string{"--initial-cluster-token=mistyped"}
	wrong.start(t)
	for _, m := range c.members[:2] {
		m.start(t)
	}
	for _, m := range c.members[:2] {
		m.waitReady(t)
	}
	if _, err := c.dial().Put(within(t, patience), "k", "v"); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); !strings.Contains(wrong.output(),
		"compare --initial-cluster and --initial-cluster-token"); time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > patience || !wrong.running() {
			t.Fatalf("the member with the wrong token does not say what is wrong; running %v", wrong.running())
		}
	}
	wrong.kill()
	wrong.flags = nil
	wrong.start(t)
	wrong.waitReady(t)
	c.checkEqual()
}

// copyOf lays out a member that runs from a copy of another one's directory, at addresses of its own.
func (c *cluster) copyOf(m *member, name string) *member {
	c.t.Helper()
	addrs := freeAddrs(c.t, 2)
	copied := c.member(name, addrs[0], addrs[1], strings.ReplaceAll(m.initial, m.peer, addrs[1]),
		"--initial-cluster-state=existing")
	if err := os.CopyFS(copied.dir, os.DirFS(m.dir)); err != nil {
		c.t.Fatal(err)
	}
	copied.name = m.name
	return copied
}

// TestHostileCopyBesideItsOriginal starts a copy of a member's directory at another address, first with the same boot
// and then with a higher one. The original keeps serving, and the copy ends with a line that says what it is.
func TestHostileCopyBesideItsOriginal(t *testing.T) {
	c := startCluster(t, 3)
	original := c.follower()
	original.kill()
	copied := c.copyOf(original, "copy")
	original.start(t)
	original.waitReady(t)
	w := startWriters(t, c, 2, 5*time.Second)
	for _, what := range []string{"the same boot", "a higher boot", "a higher boot yet"} {
		line := copied.mustNotStart(t)
		if !strings.Contains(line, "runs from a copy of") {
			t.Errorf("a copy of %s ends with %q", what, line)
		}
		t.Log(line)
		if !original.running() {
			t.Fatalf("a copy of %s ended its original", what)
		}
	}
	w.calm(0)
	if _, err := dial(t, original.client).Put(within(t, patience), "through the original", "v"); err != nil {
		t.Errorf("the original does not serve: %v", err)
	}
	w.check(c.dial())
	c.checkEqual()
}

// behind gives each member a proxy as its address for the others.
func (c *cluster) behind(heard *recording) (proxies []*proxy) {
	c.t.Helper()
	var initial []string
	for _, m := range c.members {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			c.t.Fatal(err)
		}
		p := serveProxy(c.t, &proxy{listener: l, target: m.peer, conns: make(map[net.Conn]struct{}), heard: heard})
		proxies = append(proxies, p)
		m.flags = append(m.flags, "--initial-advertise-peer-urls=http://"+p.addr())
		initial = append(initial, m.name+"=http://"+p.addr())
	}
	for _, m := range c.members {
		m.initial = strings.Join(initial, ",")
	}
	return proxies
}

// TestHostileHalfOpenOriginal: the machine of a member is lost without a word, so that all its connections stay open,
// and the member comes back from what was on its disk. It is let in, and when the old process goes on it ends by name.
func TestHostileHalfOpenOriginal(t *testing.T) {
	c := layOut(t, 3)
	proxies := c.behind(nil)
	c.start()
	at := slices.Index(c.members, c.follower())
	old := c.members[at]
	cli := c.dial()
	if _, err := dial(t, old.client).Put(within(t, patience), "by the old process", "v"); err != nil {
		t.Fatal(err)
	}
	old.signal(syscall.SIGSTOP)
	addrs := freeAddrs(t, 2)
	back := c.member("back", addrs[0], addrs[1], old.initial, old.flags...)
	if err := os.CopyFS(back.dir, os.DirFS(old.dir)); err != nil {
		t.Fatal(err)
	}
	back.name = old.name
	proxies[at].lose(back.peer)
	back.start(t)
	back.waitReady(t)
	if _, err := dial(t, back.client).Put(within(t, patience), "by the new process", "v"); err != nil {
		t.Fatal(err)
	}
	before := len(old.output())
	old.signal(syscall.SIGCONT)
	if code := old.exit(t); code <= 0 {
		t.Errorf("the old process ended with code %d", code)
	}
	line := complaint(t, old.output()[before:])
	if !strings.Contains(line, "copy") {
		t.Errorf("the old process ended with %q", line)
	}
	t.Log(line)
	c.members[at] = back
	if _, err := cli.Put(within(t, patience), "afterwards", "v"); err != nil {
		t.Fatal(err)
	}
	c.checkEqual()
}

// TestHostileRemovedMember: a member that was down when it was removed starts and is told so by a majority. One voter
// that says so is not enough, see package node.
func TestHostileRemovedMember(t *testing.T) {
	c := startCluster(t, 3)
	cli := c.dial()
	out := c.members[2]
	id := idOf(t, cli, out.name)
	out.kill()
	if _, err := cli.MemberRemove(within(t, patience), id); err != nil {
		t.Fatal(err)
	}
	if line := out.mustNotStart(t); !strings.Contains(line, "permanently removed") {
		t.Errorf("a removed member ends with %q", line)
	}
}

// secrets are the incarnations of all members, as they stand on their disks and as they would stand in a message.
func (c *cluster) secrets() (all [][]byte) {
	c.t.Helper()
	for _, m := range c.members {
		var file struct {
			Meta struct {
				Incarnation string `json:"incarnation"`
			} `json:"meta"`
		}
		b, err := os.ReadFile(filepath.Join(m.dir, "member", "meta.json"))
		if err == nil {
			err = json.Unmarshal(b, &file)
		}
		digits := file.Meta.Incarnation
		raw, bad := hex.DecodeString(digits)
		if err != nil || bad != nil || len(raw) != 32 {
			c.t.Fatalf("incarnation of %s: %q, %v", m.name, digits, err)
		}
		all = append(all, raw, []byte(digits), []byte(strings.ToUpper(digits)))
	}
	return all
}

// TestHostileIncarnationStaysHome listens to everything between the members, and reads all that they show to anybody.
// The numbers pass at the founding; once they are on record they never do, over restarts of one and of all.
func TestHostileIncarnationStaysHome(t *testing.T) {
	c := layOut(t, 3)
	heard := &recording{}
	c.behind(heard)
	c.start()
	secrets := c.secrets()
	if n := found(heard.take(), secrets); n == 0 {
		t.Error("the numbers were not seen at the founding: the proxies miss something")
	}
	c.members[1].terminate(t)
	c.start()
	killAll(c.members...)
	c.start()
	if _, err := c.dial().Put(within(t, patience), "k", "v"); err != nil {
		t.Fatal(err)
	}
	passed := heard.take()
	if n := found(passed, secrets); n > 0 {
		t.Errorf("numbers that are on record passed between the members %d times", n)
	}
	if size := len(bytes.Join(passed, nil)); size < 10_000 {
		t.Errorf("only %d bytes passed through the proxies", size)
	}
	var shown [][]byte
	for _, m := range c.members {
		for _, addr := range []string{m.peer, m.client} {
			for _, path := range []string{"/members", "/metrics", "/health", "/version", "/debug/vars",
				"/coord/introduce", "/coord/raft/shards/1/progress", "/coord/raft/shards/1/leader", "/"} {
				shown = append(shown, get(t, fmt.Sprintf("http://%s%s", addr, path)))
			}
		}
		shown = append(shown, []byte(m.output()))
	}
	if n := found(shown, secrets); n > 0 {
		t.Errorf("pages, metrics or logs show numbers %d times", n)
	}
}

// found counts the secrets in what was heard.
func found(heard, secrets [][]byte) (n int) {
	for _, b := range heard {
		for _, s := range secrets {
			n += bytes.Count(b, s)
		}
	}
	return n
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return nil // not every port serves every page
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

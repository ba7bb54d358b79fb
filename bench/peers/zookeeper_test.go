package peers

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestZooKeeperConfig(t *testing.T) {
	members := []addresses{
		{client: "127.0.0.1:1", peer: "127.0.0.1:2", election: "127.0.0.1:3"},
		{client: "127.0.0.1:4", peer: "127.0.0.1:5", election: "127.0.0.1:6"},
	}
	alone, err := zooKeeperConfig("/data", 0, members[:1])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"dataDir=/data\n", "clientPort=1\n", "clientPortAddress=127.0.0.1\n"} {
		if !strings.Contains(alone, want) {
			t.Errorf("no line %q in\n%s", want, alone)
		}
	}
	if strings.Contains(alone, "server.") {
		t.Errorf("a member that is alone has a quorum:\n%s", alone)
	}
	second, err := zooKeeperConfig("/data", 1, members)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"clientPort=4\n", "server.1=127.0.0.1:2:3\n", "server.2=127.0.0.1:5:6\n",
		"initLimit=10\n"} {
		if !strings.Contains(second, want) {
			t.Errorf("no line %q in\n%s", want, second)
		}
	}
}

func TestParseSrvr(t *testing.T) {
	leading := "Zookeeper version: 3.8.0-x, built on 2024\nLatency min/avg/max: 0/0.0/0\nMode: leader\nNode count: 5\n"
	if s := parseSrvr(leading); s.version != "3.8.0" || !s.serves() || !s.leads() {
		t.Errorf("a leader is %+v", s)
	}
	if s := parseSrvr("Zookeeper version: 3.8.0\nMode: follower\n"); !s.serves() || s.leads() {
		t.Errorf("a follower is %+v", s)
	}
	if s := parseSrvr("Mode: standalone\n"); !s.leads() {
		t.Errorf("who is alone is %+v", s)
	}
	if s := parseSrvr("This ZooKeeper instance is not currently serving requests\n"); s.serves() || s.leads() {
		t.Errorf("a member without a quorum is %+v", s)
	}
}

// Three members find each other, one of them leads, and each says what it is.
func TestThreeZooKeepers(t *testing.T) {
	p, err := Lookup(ZooKeeper, "", "", 0)
	if errors.Is(err, ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c, err := Start(t.Context(), p, 3, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Leader(t.Context()); err != nil {
		t.Error(err)
	}
	if v, err := c.Version(t.Context()); err != nil || !strings.HasPrefix(v, "3.") {
		t.Errorf("version %q, %v", v, err)
	}
	if u, err := c.Usage(); err != nil || u.RSS <= 0 || u.CPU <= 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

//go:build unix

// Package docs_test runs what docs shows: the commands and the code of the pages, and the examples.
package docs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
)

// patience bounds every wait for what must happen; it is never what a test measures.
const patience = 60 * time.Second

// programs is a folder with coordctl, etcdctl and the examples; build fills it when the first test wants it.
var programs string

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "etcdctl" { // see build
		ctlv3.MustStart()
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "docs"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(programs)
	return m.Run()
}

// build builds the programs. etcdctl is this test: etcd's command is a package, and one program less to link.
func build(t *testing.T) {
	t.Helper()
	if err := buildOnce(); err != nil {
		t.Fatal(err)
	}
}

var buildOnce = sync.OnceValue(func() error {
	for _, sources := range []string{"examples", "../cmd", "../client", "../proto"} { // go test caches: it must see what we build
		if err := filepath.WalkDir(sources, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			return err
		}
	}
	cmd := exec.Command("go", "build", "-o", programs+"/", "../cmd/coordctl", "./examples/...")
	if out, err := cmd.CombinedOutput(); err != nil {
		return &exec.Error{Name: cmd.String() + "\n" + string(out), Err: err}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.Symlink(self, filepath.Join(programs, "etcdctl"))
})

// startMember starts a member with an empty directory, and returns where it serves clients and DNS.
func startMember(t *testing.T) (endpoint, dns string) {
	t.Helper()
	cluster := coordtest.Start(t, coordtest.Options{Configure: func(_ int, c *coord.Config) { c.ListenDNS = "127.0.0.1:0" }})
	return cluster.Endpoints()[0], cluster.Server(0).Config().ListenDNS
}

// environment is that of a program which finds the other programs and the member, and nothing else of ours.
func environment(endpoint string, more ...string) []string {
	return append([]string{
		"PATH=" + programs + ":" + os.Getenv("PATH"), "HOME=" + programs,
		"COORDCTL_ENDPOINTS=" + endpoint, "ETCDCTL_ENDPOINTS=" + endpoint,
	}, more...)
}

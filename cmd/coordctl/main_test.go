//go:build unix

package main_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/coordtest/loopback"
)

// patience bounds every wait for something that must happen; it is never what a test measures.
const patience = 60 * time.Second

// commandTimeout gives a busy machine more time than the 5 s that people have.
const commandTimeout = "COORDCTL_COMMAND_TIMEOUT=30s"

// binary is the coordctl under test and server the endpoint it talks to, both made by TestMain.
var binary, server string

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "coordctl")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "coordctl")
	if err := build(binary, "."); err != nil {
		return 0, err
	}
	// COORDCTL_TEST_ENDPOINT points the suite at a server that is running already.
	if server = os.Getenv("COORDCTL_TEST_ENDPOINT"); server == "" {
		stop, err := startServer(dir)
		if err != nil {
			return 0, err
		}
		defer stop()
	}
	os.Unsetenv("COORDCTL_TEST_ENDPOINT") // it has our prefix
	os.Setenv("XDG_CONFIG_HOME", dir)     // whoever runs the tests may have contexts
	return m.Run(), nil
}

func build(binary, pkg string) error {
	if out, err := exec.Command("go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// startServer builds coordd, runs one member and sets server.
func startServer(dir string) (stop func(), err error) {
	coordd := filepath.Join(dir, "coordd")
	if err := build(coordd, "../coordd"); err != nil {
		return nil, err
	}
	server = freeAddr()
	clients, peers := "http://"+server, "http://"+freeAddr()
	member := exec.Command(coordd, "--name", "m0", "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "m0="+peers)
	var log output
	member.Stdout, member.Stderr = &log, &log
	if err := member.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = member.Process.Kill()
		_ = member.Wait()
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(log.String(), "ready to serve client requests") {
			return stop, nil
		}
	}
	stop()
	return nil, fmt.Errorf("coordd did not become ready:\n%s", &log)
}

// freeAddr is a loopback address nobody listens on.
func freeAddr() string {
	addrs, err := loopback.Addrs(1)
	if err != nil {
		panic(err)
	}
	return addrs[0]
}

// endpoint is the server of the suite.
func endpoint(t *testing.T) string {
	t.Helper()
	return server
}

func newClient(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint(t)}, DialTimeout: patience,
		Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// output is a buffer that a process writes while the test reads.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// run is a running or ended coordctl.
type run struct {
	*exec.Cmd
	out, err output
	done     chan struct{}
}

// start runs coordctl with an environment free of our variables, and ends it with the test.
func start(t *testing.T, opt options, args ...string) *run {
	t.Helper()
	r := &run{Cmd: exec.Command(binary, args...), done: make(chan struct{})}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "COORDCTL_") && !strings.HasPrefix(kv, "ETCDCTL_") {
			r.Env = append(r.Env, kv)
		}
	}
	if !opt.noEndpoint {
		r.Env = append(r.Env, "COORDCTL_ENDPOINTS="+endpoint(t), commandTimeout)
	}
	r.Env = append(r.Env, opt.env...)
	r.Stdin, r.Stdout, r.Stderr = strings.NewReader(opt.stdin), &r.out, &r.err
	r.WaitDelay = time.Second // something left in the background may hold the pipes
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		_ = r.Wait()
	}()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.done
	})
	return r
}

type options struct {
	stdin      string
	env        []string
	noEndpoint bool
}

// code waits for the end and returns the exit code.
func (r *run) code(t *testing.T) int {
	t.Helper()
	select {
	case <-r.done:
		return r.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("coordctl %q did not end; out %q, err %q", r.Args[1:], r.out.String(), r.err.String())
		return -1
	}
}

func (r *run) wantCode(t *testing.T, want int) {
	t.Helper()
	if got := r.code(t); got != want {
		t.Fatalf("coordctl %q: exit code %d, want %d; out %q, err %q", r.Args[1:], got, want, r.out.String(),
			r.err.String())
	}
}

// wantOneLine checks that the error output is one line that holds text.
func (r *run) wantOneLine(t *testing.T, text string) {
	t.Helper()
	msg := r.err.String()
	if strings.Count(msg, "\n") != 1 || !strings.Contains(msg, text) {
		t.Fatalf("coordctl %q: error output %q, want one line with %q", r.Args[1:], msg, text)
	}
}

// waitOut waits until the standard output holds text.
func (r *run) waitOut(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() bool { return strings.Contains(r.out.String(), text) },
		"%q on the output of coordctl %q, error output %q", text, r.Args[1:], &r.err)
}

func (r *run) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := r.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// ok runs coordctl to its end, wants exit code 0 and returns the output.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	return okWith(t, options{}, args...)
}

func okWith(t *testing.T, opt options, args ...string) string {
	t.Helper()
	r := start(t, opt, args...)
	r.wantCode(t, 0)
	return r.out.String()
}

func eventually(t *testing.T, cond func() bool, format string, args ...any) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: "+format, args...)
		}
	}
}

// queueOf reads the entries of a lock or election, in order.
func queueOf(t *testing.T, client *clientv3.Client, name string) []entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := client.Get(ctx, name+"/", clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	for _, kv := range resp.Kvs {
		entries = append(entries,
			entry{string(kv.Key), string(kv.Value), kv.CreateRevision, clientv3.LeaseID(kv.Lease)})
	}
	return entries
}

type entry struct {
	key, value string
	token      int64
	lease      clientv3.LeaseID
}

func waitQueue(t *testing.T, client *clientv3.Client, name string, n int) []entry {
	t.Helper()
	var entries []entry
	eventually(t, func() bool { entries = queueOf(t, client, name); return len(entries) == n }, "%d entries under %s",
		n, name)
	return entries
}

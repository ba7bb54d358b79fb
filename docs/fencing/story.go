//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord"
)

// ttl is that of the workers' sessions.
const ttl = time.Second

// tellAll tells the story with each protection.
func tellAll(ctx context.Context, out io.Writer) (err error) {
	endpoint, stop, err := startCoord(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, how := range []protection{unprotected, byMemory, byAsking} {
		if _, err := tell(ctx, out, endpoint, how); err != nil {
			return fmt.Errorf("%s: %w", how, err)
		}
	}
	return nil
}

// outcome is how a story ended.
type outcome struct {
	file       string
	alice, bob string // what they said of their write
	aliceEnd   string // what Alice said of her lock afterwards
}

// tell lets Alice be stopped in the middle of her work, and Bob do his meanwhile.
func tell(ctx context.Context, out io.Writer, endpoint string, how protection) (o outcome, err error) {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	say("== %s", how)
	c, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return o, err
	}
	defer c.Close()
	ledger := &file{}
	server := ledger.serve(how, c)
	defer server.Close()

	alice, err := startWorker(workerSpec{"alice", endpoint, server.URL, ttl})
	if err != nil {
		return o, err
	}
	defer alice.kill()
	token, err := alice.hear(saidRead)
	if err != nil {
		return o, err
	}
	say("alice holds the lock with token %s and has read the file", token)
	if err := alice.signal(syscall.SIGSTOP); err != nil {
		return o, err
	}
	say("alice is stopped, for longer than the TTL of her session, %s", ttl)

	bob, err := startWorker(workerSpec{"bob", endpoint, server.URL, ttl})
	if err != nil {
		return o, err
	}
	defer bob.kill()
	if token, err = bob.hear(saidRead); err != nil {
		return o, err
	}
	say("bob holds the lock with token %s and has read the file", token)
	if o.bob, _, err = bob.goOn(); err != nil {
		return o, err
	}
	say("bob's write: %s; the file is now %q", o.bob, ledger.content())

	say("alice goes on, and knows nothing of it")
	if err := alice.signal(syscall.SIGCONT); err != nil {
		return o, err
	}
	if o.alice, o.aliceEnd, err = alice.goOn(); err != nil {
		return o, err
	}
	o.file = ledger.content()
	say("alice's write: %s; the file is now %q", o.alice, o.file)
	say("alice's release: %s", o.aliceEnd)
	if strings.Contains(o.file, "bob") {
		say("=> nothing is lost\n")
	} else {
		say("=> what bob wrote is lost\n")
	}
	return o, nil
}

// worker is a process that does work.
type worker struct {
	cmd   *exec.Cmd
	stdin io.Writer
	lines *bufio.Scanner
}

func startWorker(spec workerSpec) (*worker, error) {
	encoded, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.Command(self)}
	w.cmd.Env = append(os.Environ(), workerEnv+"="+string(encoded))
	w.cmd.Stderr = os.Stderr
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.lines = bufio.NewScanner(stdout)
	return w, w.cmd.Start()
}

// hear waits for the worker to say one of these, and returns what it said with it.
func (w *worker) hear(words ...string) (string, error) {
	if !w.lines.Scan() {
		return "", fmt.Errorf("a worker ended: %w", errors.Join(w.lines.Err(), io.ErrUnexpectedEOF))
	}
	word, rest, _ := strings.Cut(w.lines.Text(), " ")
	for _, expected := range words {
		if word == expected && len(words) == 1 {
			return rest, nil
		}
		if word == expected {
			return w.lines.Text(), nil
		}
	}
	return "", fmt.Errorf("a worker said %q, and not one of %q", w.lines.Text(), words)
}

// goOn lets the worker write, and returns what it says of that and of its lock.
func (w *worker) goOn() (write, end string, err error) {
	if _, err := io.WriteString(w.stdin, "\n"); err != nil {
		return "", "", err
	}
	if write, err = w.hear(saidWrote, saidRefused); err != nil {
		return "", "", err
	}
	if end, err = w.hear(saidFailed, saidReleased); err != nil {
		return "", "", err
	}
	return write, end, w.cmd.Wait()
}

func (w *worker) signal(s syscall.Signal) error { return w.cmd.Process.Signal(s) }

// kill ends the worker, if it has not ended by itself.
func (w *worker) kill() {
	if w.cmd.ProcessState == nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	}
}

// startCoord starts a server of coord with an empty directory in this process.
func startCoord(ctx context.Context) (endpoint string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "fencing")
	if err != nil {
		return "", nil, err
	}
	clients, peers := freeAddress(), freeAddress()
	server, err := coord.Start(ctx, coord.Config{
		Name: "fencing", DataDir: filepath.Join(dir, "data"), InitialCluster: "fencing=http://" + peers,
		ListenClientURLs: []string{"http://" + clients}, AdvertiseClientURLs: []string{"http://" + clients},
		ListenPeerURLs: []string{"http://" + peers}, InitialAdvertisePeerURLs: []string{"http://" + peers},
	}, zap.NewNop())
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error { return errors.Join(server.Stop(ctx), os.RemoveAll(dir)) }
	select {
	case <-server.Ready():
		return clients, stop, nil
	case <-server.Done():
		return "", nil, errors.Join(server.Err(), stop())
	}
}

// freeAddress is a loopback address that nobody listens on; empty if there is none, which the server then refuses.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()
	return l.Addr().String()
}

package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// TestKV: a write and a read over the stream; a refusal is etcd's error.
func TestKV(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		put, err := c.Put(t.Context(), "k", "v")
		if err != nil || put.Header.ClusterId != 7 || put.Header.MemberId != 8 || put.Header.Revision == 0 {
			t.Fatalf("%v, %v", put, err)
		}
		got, err := c.Get(t.Context(), "k")
		if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := c.Put(t.Context(), "", "v"); err != rpctypes.ErrEmptyKey {
			t.Errorf("no key: %v", err)
		}
		_ = c.Close()
		if _, err := c.Put(t.Context(), "k", "v"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if _, err := c.Get(t.Context(), "k"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestLostResponseIsNoSecondExecution: the responses of a member are lost, then its connection breaks. Over the next
// one the same request is answered by its first outcome.
func TestLostResponseIsNoSecondExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{}, "a", "b")
		if _, err := c.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.deaf["a"] = true })
		results := make(chan error, 20)
		for i := range 20 {
			go func() {
				_, err := c.Put(t.Context(), fmt.Sprint("k", i), "v")
				results <- err
			}()
		}
		synctest.Wait()
		if n := f.count(coordv1.Kind_KIND_PUT); n == 0 || len(results) != 0 {
			t.Fatalf("%d executed, %d answered: this test shows nothing", n, len(results))
		}
		f.cutAll()
		for range 20 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := f.count(coordv1.Kind_KIND_PUT); n != 20 {
			t.Errorf("20 puts were executed %d times", n)
		}
		_ = c.Close()
	})
}

// TestUnknownOutcomes: what was sent has an unknown outcome when its context or its session ends; what never left has
// not.
func TestUnknownOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		s := open(t, c, WithTTL(30*time.Second))
		f.set(func() { f.deaf["a"] = true })
		why := errors.New("changed my mind")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		_, err := s.KV().Put(ctx, "k", "v")
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, why) {
			t.Errorf("sent: %v", err)
		}
		results := make(chan error)
		go func() {
			_, err := s.KV().Put(t.Context(), "k", "v")
			results <- err
		}()
		synctest.Wait()
		f.set(func() { f.silent["a"] = true })
		f.cutAll()
		synctest.Wait()
		if _, err := s.KV().Put(ctx, "k", "v"); !errors.Is(err, why) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("not sent: %v", err)
		}
		go func() {
			_, err := s.KV().Put(t.Context(), "k", "v")
			if errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrSessionExpired) {
				t.Errorf("not sent, session lost: %v", err)
			}
			results <- nil
		}()
		for range 2 {
			if err := <-results; err != nil &&
				(!errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrSessionExpired)) {
				t.Errorf("sent, session lost: %v", err)
			}
		}
		if f.count(coordv1.Kind_KIND_PUT) != 2 {
			t.Errorf("%d puts executed", f.count(coordv1.Kind_KIND_PUT))
		}
		_ = c.Close()
	})
}

// TestAgain: what the server could not do now is sent again with the same sequence number.
func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		refusals := 0
		f.refuse = func(r *coordv1.Request) *coordv1.Refusal {
			if r.Kind != coordv1.Kind_KIND_PUT && r.Kind != coordv1.Kind_KIND_RANGE || refusals == 5 {
				return nil
			}
			refusals++
			return &coordv1.Refusal{Reason: coordv1.Error_REASON_OUTCOME_UNKNOWN, Code: uint32(codes.Unavailable),
				Message: "etcdserver: request timed out"}
		}
		if _, err := c.Put(t.Context(), "k", "v"); err != nil {
			t.Error(err)
		}
		f.set(func() { refusals = 0 })
		if _, err := c.Get(t.Context(), "k"); err != nil {
			t.Error(err)
		}
		f.set(func() { refusals = -1000000 })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Put(ctx, "k",
			"v"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrOutcomeUnknown) {
			t.Error(err)
		}
		_ = c.Close()
	})
}

// TestAcknowledgements: the server keeps no outcome that was received, at the latest after a heartbeat.
func TestAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		for range 10 {
			if _, err := c.Put(t.Context(), "k", "v"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(idleBeat + time.Second)
		f.set(func() {
			for _, s := range f.sessions {
				if len(s.outcomes) != 0 || s.acked != 10 {
					t.Errorf("%d outcomes kept, %d acknowledged", len(s.outcomes), s.acked)
				}
			}
		})
		_ = c.Close()
	})
}

// TestRequestsGather: while some frames are under way, what comes travels together; nothing waits for a timer.
func TestRequestsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		if _, err := c.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.deaf["a"], f.frames, f.largest = true, 0, 0 })
		var group sync.WaitGroup
		put := func() {
			group.Go(func() {
				if _, err := c.Put(t.Context(), "k", "v"); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range 60 {
			put()
		}
		f.set(func() {
			if f.frames != freeFrames || f.largest != 1 {
				t.Errorf("%d frames while nothing is answered, the largest with %d requests", f.frames, f.largest)
			}
			f.deaf["a"] = false
		})
		f.cutAll()
		group.Wait()
		f.set(func() {
			if f.largest < 50 {
				t.Errorf("the largest frame had %d requests", f.largest)
			}
		})
		if start := time.Now(); true {
			put()
			group.Wait()
			if time.Since(start) != 0 {
				t.Errorf("a lone request took %v without a network", time.Since(start))
			}
		}
		_ = c.Close()
	})
}

// TestNobodyThere: calls end with their context while no server answers, and go through once one does.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.openFail = func(string) error { return status.Error(codes.Unavailable, "refused") }
		c := f.client(t, Config{}, "a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: %v", err)
		}
		if _, err := c.Lock("job").Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("acquire: %v", err)
		}
		result := make(chan error)
		go func() {
			_, err := c.Put(t.Context(), "k", "v")
			result <- err
		}()
		time.Sleep(10 * time.Second)
		f.set(func() {
			if n := len(f.dialled); n < 20 || n > 100 {
				t.Errorf("%d attempts in 11 s", n)
			}
			f.openFail = nil
		})
		if err := <-result; err != nil {
			t.Error(err)
		}
		_ = c.Close()
	})
}

// TestHopelessServer: it does not know the stream; the caller is told at once.
func TestHopelessServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.openFail = func(string) error { return status.Error(codes.Unimplemented, "unknown service") }
		c := f.client(t, Config{})
		if _, err := c.Put(t.Context(), "k", "v"); status.Code(err) != codes.Unimplemented {
			t.Errorf("put: %v", err)
		}
		_ = c.Close()
	})
}

// TestGuardedKV: writes of a held lock's KV go through while it holds, and are fenced after.
func TestGuardedKV(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		held, err := c.Lock("job").Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		kv := held.KV()
		if _, err := kv.Put(t.Context(), "k", "v"); err != nil {
			t.Error(err)
		}
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), "k", "late"); !errors.Is(err, ErrFenced) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("put after release: %v", err)
		}
		if _, err := kv.Txn(t.Context()).Then(clientv3.OpGet("k")).Commit(); !errors.Is(err, ErrFenced) {
			t.Errorf("transaction after release: %v", err)
		}
		_ = c.Close()
	})
}

// TestChannel: messages go both ways and are given credit again; a link's end ends it.
func TestChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		ch, err := c.t.openChannel(t.Context(), coordv1.ChannelKind_CHANNEL_WATCH)
		if err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 10_000)
		for i := range 20 {
			message[0] = byte(i)
			if err := ch.send(append([]byte(nil), message...)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20 {
			got, err := ch.recv()
			if err != nil || len(got) != len(message) || got[0] != byte(i) {
				t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
			}
		}
		f.cutAll()
		if _, err := ch.recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("after the link: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ch, err = c.t.openChannel(ctx, coordv1.ChannelKind_CHANNEL_WATCH)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := ch.recv(); status.Code(err) != codes.Canceled {
			t.Errorf("cancelled: %v", err)
		}
		synctest.Wait()
		c.t.lock()
		if len(c.t.mu.channels) != 0 {
			t.Errorf("%d channels left", len(c.t.mu.channels))
		}
		c.t.unlock()
		_ = c.Close()
	})
}

// TestRefusedAtTheSecondTry: the session is gone, and the first try may have been executed.
func TestRefusedAtTheSecondTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		s := open(t, c)
		tries := 0
		f.refuse = func(r *coordv1.Request) *coordv1.Refusal {
			if r.Kind != coordv1.Kind_KIND_PUT {
				return nil
			}
			if tries++; tries == 1 {
				return &coordv1.Refusal{Reason: coordv1.Error_REASON_OUTCOME_UNKNOWN, Code: uint32(codes.Unavailable)}
			}
			return &coordv1.Refusal{Reason: coordv1.Error_REASON_SESSION_NOT_FOUND, Code: uint32(codes.NotFound)}
		}
		if _, err := s.KV().Put(t.Context(), "k",
			"v"); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrSessionExpired) {
			t.Errorf("%v", err)
		}
		_ = c.Close()
	})
}

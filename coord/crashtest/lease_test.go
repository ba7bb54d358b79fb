package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watched is a lease and when it was seen to be gone.
type watched struct {
	id  clientv3.LeaseID
	ttl time.Duration
	// granted is an instant before the last grant or renewal that was acknowledged was answered, sent one before it was
	// asked for.
	sent, granted time.Time
	gone          chan time.Time
}

// grant grants a lease and watches the key it carries through all members, so that the first to tell counts.
func grant(t *testing.T, c *cluster, ttl int64) *watched {
	t.Helper()
	cli := c.dial()
	l := &watched{ttl: time.Duration(ttl) * time.Second, sent: time.Now(), gone: make(chan time.Time, len(c.members))}
	resp, err := cli.Grant(within(t, patience), ttl)
	if err != nil {
		t.Fatal(err)
	}
	l.id = resp.ID
	key := fmt.Sprintf("lease/%x", resp.ID)
	put, err := cli.Put(within(t, patience), key, "", clientv3.WithLease(resp.ID))
	if err != nil {
		t.Fatal(err)
	}
	l.granted = time.Now()
	for _, m := range c.members {
		l.watch(t, m, key, put.Header.Revision)
	}
	return l
}

// renew renews the lease once.
func (l *watched) renew(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	sent := time.Now()
	if _, err := cli.KeepAliveOnce(within(t, patience), l.id); err != nil {
		t.Fatalf("renew: %v", err)
	}
	l.sent, l.granted = sent, time.Now()
}

// watch tells when a member says that the key, put at rev, is gone.
func (l *watched) watch(t *testing.T, m *member, key string, rev int64) {
	cli := dial(t, m.client)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for resp := range cli.Watch(ctx, key, clientv3.WithRev(rev)) {
			for _, e := range resp.Events {
				if e.Type == clientv3.EventTypeDelete {
					l.gone <- time.Now()
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
}

// expires waits for the lease to be gone. It must not be before its TTL has passed since the last acknowledged renewal
// was sent; late is what it may take longer, with threefold slack.
func (l *watched) expires(t *testing.T, what string, late time.Duration) {
	t.Helper()
	bound := 3 * (l.ttl + late)
	select {
	case at := <-l.gone:
		// The server measures from when it applied the renewal, which is after it was sent.
		lived := at.Sub(l.sent)
		t.Logf("%s: a lease of %v was gone %v after its last renewal; bound %v", what, l.ttl,
			lived.Round(time.Millisecond), l.ttl+late)
		if lived < l.ttl {
			t.Errorf("%s: a lease of %v was gone after %v", what, l.ttl, lived)
		}
	case <-time.After(time.Until(l.granted.Add(bound))):
		t.Errorf("%s: a lease of %v is still there after %v", what, l.ttl, bound)
	}
}

// lateness is what expiry may take longer than the TTL: election and ticks.
func lateness(ttl time.Duration) time.Duration {
	tick := min(max(ttl/10, 20*time.Millisecond), 500*time.Millisecond)
	return electionTimeout + 2*tick + 100*time.Millisecond
}

// TestLeasesExpireInTime has leases expire with nothing in the way, and across kill -9 of the leader.
func TestLeasesExpireInTime(t *testing.T) {
	t.Parallel() // most of it is waiting
	c := startCluster(t, 3)
	l := grant(t, c, 3)
	l.expires(t, "undisturbed", lateness(l.ttl))
	for range rounds(t) {
		l = grant(t, c, 5)
		time.Sleep(time.Second)
		l.renew(t, c.dial())
		time.Sleep(time.Second)
		leader := c.leader()
		leader.kill()
		l.expires(t, "kill -9 of the leader", lateness(l.ttl))
		c.start()
		if _, err := c.dial().KeepAliveOnce(within(t, patience), l.id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Errorf("a lease that expired is renewed with %v", err)
		}
	}
}

// TestNoGiftAtLeaderChange changes leaders while nothing but a long lease is there. Its remaining time goes on falling.
func TestNoGiftAtLeaderChange(t *testing.T) {
	t.Parallel() // most of it is waiting
	c := startCluster(t, 3)
	cli := c.dial()
	const ttl = 60
	l := grant(t, c, ttl)
	var outages time.Duration
	for _, change := range []struct {
		what string
		do   func()
	}{
		{"transfer", func() { c.moveLeader(t) }},
		{"kill -9 of the leader", func() { c.leader().kill(); c.start() }},
		{"kill -9 of all", func() { killAll(c.members...); c.start() }},
	} {
		time.Sleep(2 * time.Second)
		begin := time.Now()
		change.do()
		c.leader()
		outages += time.Since(begin)
		time.Sleep(time.Second)
		passed := time.Since(l.granted)
		resp, err := cli.TimeToLive(within(t, patience), l.id)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d s are left of %d s after %v, of which %v without a leader at most", change.what, resp.TTL, ttl,
			passed.Round(time.Millisecond), outages.Round(time.Millisecond))
		if least := ttl - int64(time.Since(l.sent)/time.Second) - 1; resp.TTL < least {
			t.Errorf("%s: %d s are left, at least %d have to be", change.what, resp.TTL, least)
		}
		// Time does not pass while nobody serves: that much it may be more, threefold, and two ticks.
		if most := ttl - int64((passed-3*(outages+time.Second))/time.Second); resp.TTL > most || resp.TTL == ttl {
			t.Errorf("%s: %d s are left of %d s after %v: time was given", change.what, resp.TTL, ttl, passed)
		}
	}
}

// TestStoppedLeader stops the leader's process for three TTLs. Leases that are renewed live, others expire, and the old
// leader expires nothing early when it wakes up.
func TestStoppedLeader(t *testing.T) {
	t.Parallel() // most of it is waiting
	c := startCluster(t, 3)
	const ttl = 3
	leader := c.leader()
	others := dial(t, c.next(leader).client, c.next(c.next(leader)).client)
	// The one that lives is renewed much more often than its TTL asks for: the machine may be busy.
	living, dying := grant(t, c, 3*ttl), grant(t, c, ttl)
	dying.renew(t, others)
	leader.signal(syscall.SIGSTOP)
	stopped := time.Now()
	kept := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { kept <- keepAlive(ctx, others, living) }()
	dying.expires(t, "SIGSTOP of the leader", lateness(dying.ttl))
	time.Sleep(time.Until(stopped.Add(3 * ttl * time.Second)))
	leader.signal(syscall.SIGCONT)
	time.Sleep(living.ttl)
	select {
	case at := <-living.gone:
		t.Errorf("a lease that was renewed every %v was gone %v after the leader was stopped", living.ttl/renewals,
			at.Sub(stopped))
	default:
	}
	cancel()
	if err := <-kept; err != nil {
		t.Errorf("renewals: %v", err)
	}
	c.checkEqual()
}

// renewals is how often keepAlive renews within a TTL.
const renewals = 12

// keepAlive renews a lease until ctx ends. A renewal that got no answer is repeated at once.
func keepAlive(ctx context.Context, cli *clientv3.Client, l *watched) error {
	for ctx.Err() == nil {
		sent := time.Now()
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := cli.KeepAliveOnce(attempt, l.id)
		cancel()
		switch {
		case err == nil:
			l.sent = sent
			time.Sleep(l.ttl / renewals)
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return fmt.Errorf("%w %v after a renewal that was acknowledged", err, time.Since(l.sent))
		}
	}
	return nil
}

// TestClocksThatDiffer runs members whose monotonic clocks differ by days, and changes leaders.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel() // most of it is waiting
	c := layOut(t, 3)
	for i, m := range c.members {
		m.wrap = []string{"unshare", "--time", "--monotonic", strconv.Itoa(i * 86400 * 3), "--boottime",
			strconv.Itoa(i * 86400), "--kill-child"}
		if os.Getuid() != 0 {
			m.wrap = append(m.wrap, "--map-root-user")
		}
	}
	c.start()
	l := grant(t, c, 6)
	time.Sleep(time.Second)
	c.moveLeader(t)
	l.renew(t, c.dial())
	time.Sleep(time.Second)
	c.moveLeader(t)
	l.expires(t, "clocks that differ by days", lateness(l.ttl))
}

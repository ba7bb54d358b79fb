package config_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client/config"
	"github.com/coord-dev/coord/proto/layout"
)

// limits is the configuration of the tests.
type limits struct {
	Max int `json:"max"`
}

func positive(l limits) error {
	if l.Max <= 0 {
		return fmt.Errorf("max is %d", l.Max)
	}
	return nil
}

func doc(n int) string { return fmt.Sprintf(`{"max":%d}`, n) }

func watch(t *testing.T, s *fakeStore, opts ...config.Option) *config.Value[limits] {
	t.Helper()
	v, err := config.Watch[limits](t.Context(), s, "svc/a", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// waitMax waits, in the time of a bubble, until the value is n.
func waitMax(t *testing.T, v *config.Value[limits], n int, within time.Duration) {
	t.Helper()
	for end := time.Now().Add(within); v.Load().Max != n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v the value is still %d, not %d; error %v", within, v.Load().Max, n, v.Err())
		}
	}
}

func TestValueFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := s.publish("svc/a", "d.json", doc(1))
		s.publish("svc/b", "d.json", doc(9))
		var changes []string
		v := watch(t, s, config.OnChange(func(before, now config.Snapshot[limits]) {
			changes = append(changes,
				fmt.Sprintf("%d@%d to %d@%d", before.Value.Max, before.Version.Number, now.Value.Max,
					now.Version.Number))
		}))
		if v.Load().Max != 1 || v.Rev() != first || v.Version() != 1 || v.Stale() || v.Err() != nil ||
			v.Current().Version.Reason != "test" {
			t.Errorf("at first %+v, revision %d, stale %v, error %v", v.Current(), v.Rev(), v.Stale(), v.Err())
		}
		synctest.Wait()
		for n := 2; n < 5; n++ {
			rev := s.publish("svc/a", "d.json", doc(n))
			synctest.Wait() // no time passes
			if v.Load().Max != n || v.Rev() != rev {
				t.Errorf("after %d: %+v", n, v.Current())
			}
		}
		v.Close()
		s.publish("svc/a", "d.json", doc(5))
		synctest.Wait()
		if v.Load().Max != 4 || !slices.Equal(changes, []string{"1@1 to 2@2", "2@2 to 3@3", "3@3 to 4@4"}) {
			t.Errorf("after Close %d; changes %q", v.Load().Max, changes)
		}
	})
}

// TestNeverFreezesNorGoesBack: 1,000 watches that end, at once or after an event, are compacted or fall silent, and a
// store that is down every now and then; meanwhile readers see revisions that only grow, and after each publication the
// value arrives.
func TestNeverFreezesNorGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Log("seed", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		s := newFakeStore()
		faults := rand.New(rand.NewPCG(seed, 2))
		s.breakWatch = func() fault { return []fault{ends, compacted, silent, brief}[faults.IntN(4)] }
		s.publish("svc/a", "d.json", doc(1))
		v := watch(t, s)
		var stop atomic.Bool
		var reader sync.WaitGroup
		reader.Go(func() {
			for last := int64(0); !stop.Load(); time.Sleep(50 * time.Millisecond) {
				now := v.Current()
				if now.Version.Revision < last || int64(now.Value.Max) != now.Version.Number {
					t.Errorf("revision %d after %d, value %d of version %d", now.Version.Revision, last, now.Value.Max,
						now.Version.Number)
				}
				last = now.Version.Revision
			}
		})
		n := 1
		for watches := 0; watches < 1000; s.set(func(s *fakeStore) { watches = s.watches }) {
			if random.IntN(4) == 0 {
				s.set(func(s *fakeStore) { s.down = true })
				time.Sleep(time.Duration(random.IntN(5000)) * time.Millisecond)
				s.set(func(s *fakeStore) { s.down = false })
			}
			for range random.IntN(3) {
				n++
				s.publish("svc/a", "d.json", doc(n))
			}
			// The bound of the docs for a dead watch: 1.25 refreshes, then 2 s.
			waitMax(t, v, n, config.DefaultRefresh*5/4+2*time.Second+time.Millisecond)
			time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
		}
		stop.Store(true)
		reader.Wait()
	})
}

// TestWatchErrorsAreOvercomeQuickly: a watch that says that it failed costs two seconds at most.
func TestWatchErrorsAreOvercomeQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.publish("svc/a", "d.json", doc(1))
		how := compacted
		s.breakWatch = func() fault { return how }
		v := watch(t, s)
		time.Sleep(time.Minute) // until the pauses are as long as they get
		for n, f := range []fault{compacted, ends, brief} {
			s.set(func(*fakeStore) { how = f })
			s.publish("svc/a", "d.json", doc(n+2))
			waitMax(t, v, n+2, 2*time.Second+time.Millisecond)
		}
		var watches int
		s.set(func(s *fakeStore) { watches = s.watches })
		if watches > 150 {
			t.Errorf("%d watches in a minute of failures: that is a busy loop", watches)
		}
	})
}

// TestRefusedVersionKeepsTheLastGood: what cannot be decoded or is refused changes nothing, is told, and is over with
// the next good version.
func TestRefusedVersionKeepsTheLastGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		good := s.publish("svc/a", "d.json", doc(1))
		v := watch(t, s, config.Validate(positive), config.Report(s, "node/1", nil))
		synctest.Wait()
		if st, _ := s.status("svc/a",
			"node/1"); st == nil || st.Client != "node/1" || st.Seen != 1 || st.Applied != 1 ||
			st.AppliedRevision != good || st.Error != "" || st.TimeUnixMs == 0 {
			t.Errorf("at first the report is %v", st)
		}
		for i, c := range []struct{ content, text string }{
			{doc(-1), "version 2: max is -1"}, {"{", "version 3: document \"d.json\": unexpected end"}, {`{"max":"\xff"}`, "version 4"},
		} {
			rev := s.publish("svc/a", "d.json", c.content)
			synctest.Wait()
			if v.Load().Max != 1 || v.Rev() != good || !errors.Is(v.Err(), config.ErrRefused) ||
				!strings.Contains(v.Err().Error(), c.text) || v.Stale() {
				t.Errorf("%s: %+v, error %v", c.content, v.Current(), v.Err())
			}
			if st, _ := s.status("svc/a",
				"node/1"); st.Seen != int64(i+2) || st.SeenRevision != rev || st.Applied != 1 ||
				st.AppliedRevision != good || !strings.Contains(st.Error, c.text) {
				t.Errorf("%s: the report is %v", c.content, st)
			}
		}
		s.publish("svc/a", "d.json", doc(2))
		synctest.Wait()
		if st, _ := s.status("svc/a",
			"node/1"); v.Load().Max != 2 || v.Err() != nil || st.Seen != 5 || st.Applied != 5 || st.Error != "" {
			t.Errorf("after a good one: %+v, error %v, report %v", v.Current(), v.Err(), st)
		}
		statuses, err := config.Statuses(t.Context(), s, "svc/a")
		if err != nil || len(statuses) != 1 || statuses[0].Client != "node/1" || statuses[0].Applied != 5 {
			t.Errorf("statuses: %v, %v", statuses, err)
		}
	})
}

// TestValueAndErrChangeTogether: who sees a version does not see the refusal of an earlier one any more, nor the value
// of before once the refusal is gone.
func TestValueAndErrChangeTogether(t *testing.T) {
	s := newFakeStore()
	s.publish("svc/a", "d.json", doc(1))
	v := watch(t, s, config.Validate(positive))
	for n := 2; n < 4000; n += 2 {
		s.publish("svc/a", "d.json", doc(-1))
		for v.Err() == nil {
			runtime.Gosched()
		}
		if v.Version() >= int64(n) {
			t.Fatalf("version %d was refused and taken: %v", n, v.Err())
		}
		good := int64(n + 1)
		s.publish("svc/a", "d.json", doc(n+1))
		if n%4 == 0 {
			for v.Version() < good {
				runtime.Gosched()
			}
			if err := v.Err(); err != nil {
				t.Fatalf("with version %d there is still %v", good, err)
			}
			continue
		}
		for v.Err() != nil {
			runtime.Gosched()
		}
		if now := v.Version(); now < good {
			t.Fatalf("nothing is wrong any more with version %d, not %d", now, good)
		}
	}
}

// TestOnChangeSeesNoOldRefusal: OnChange comes after the change of everything that can be asked.
func TestOnChangeSeesNoOldRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.publish("svc/a", "d.json", doc(1))
		var v *config.Value[limits]
		calls := 0
		v = watch(t, s, config.Validate(positive), config.OnChange(func(_, now config.Snapshot[limits]) {
			if calls++; v.Err() != nil || v.Stale() || v.Version() != now.Version.Number {
				t.Errorf("told of version %d at version %d, stale %v, error %v", now.Version.Number, v.Version(),
					v.Stale(), v.Err())
			}
		}))
		synctest.Wait()
		for _, n := range []int{-1, 2, -1, 3} {
			s.publish("svc/a", "d.json", doc(n))
			synctest.Wait()
		}
		if calls != 2 {
			t.Errorf("%d changes were told, want 2", calls)
		}
	})
}

// TestStaleUntilJudged: the value of the copy is stale for as long as it takes to judge what the cluster has instead.
func TestStaleUntilJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newFakeStore(), filepath.Join(t.TempDir(), "copy")
		s.publish("svc/a", "d.json", doc(1))
		watch(t, s, config.Copy(path)).Close()
		s.publish("svc/a", "d.json", doc(2))
		s.set(func(s *fakeStore) { s.down = true })
		v := watch(t, s, config.Copy(path), config.Patience(time.Second), config.Validate(func(l limits) error {
			if l.Max == 2 {
				time.Sleep(time.Minute)
			}
			return nil
		}))
		s.set(func(s *fakeStore) { s.down = false })
		for end := time.Now().Add(2 * time.Minute); v.Load().Max == 1; time.Sleep(100 * time.Millisecond) {
			if !v.Stale() && v.Load().Max == 1 {
				t.Fatal("the value of the copy was never confirmed, and is not stale")
			}
			if time.Now().After(end) {
				t.Fatal("the value of the cluster never came")
			}
		}
		if v.Stale() {
			t.Error("the value of the cluster is stale")
		}
	})
}

// TestRefusedVersionIsJudgedOnce: reads that find the refused version again do not ask again.
func TestRefusedVersionIsJudgedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.breakWatch = func() fault { return ends }
		s.publish("svc/a", "d.json", doc(1))
		var asked atomic.Int32
		watch(t, s, config.Validate(func(l limits) error { asked.Add(1); return positive(l) }))
		synctest.Wait()
		s.publish("svc/a", "d.json", doc(-1))
		time.Sleep(5 * time.Minute)
		if n := asked.Load(); n != 2 {
			t.Errorf("Validate was asked %d times for two versions", n)
		}
	})
}

// TestDeletedBundle: the value stays, Err says so, and what is published next counts although its number is smaller.
func TestDeletedBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.publish("svc/a", "d.json", doc(1))
		s.publish("svc/a", "d.json", doc(2))
		v := watch(t, s)
		synctest.Wait()
		s.delete(layout.CurrentKey("svc/a"))
		time.Sleep(2 * time.Minute)
		if v.Load().Max != 2 || !errors.Is(v.Err(), config.ErrUnknownBundle) || v.Stale() {
			t.Errorf("deleted: %+v, error %v, stale %v", v.Current(), v.Err(), v.Stale())
		}
		s.publish("svc/a", "d.json", doc(3))
		synctest.Wait()
		if v.Load().Max != 3 || v.Version() != 1 || v.Err() != nil {
			t.Errorf("published again: %+v, error %v", v.Current(), v.Err())
		}
	})
}

// TestStoreThatIsBehind: what an old copy of the store says is not believed, unless it is the store of another cluster.
// Whoever reads again and again finds that out at once, whoever has a watch that is quiet with the next confirmation.
func TestStoreThatIsBehind(t *testing.T) {
	for _, c := range []struct {
		watches fault
		within  time.Duration
	}{{ends, 3 * time.Second}, {silent, 30*time.Second*5/4 + 3*time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore()
			s.breakWatch = func() fault { return c.watches }
			s.publish("svc/a", "d.json", doc(1))
			old := s.image()
			s.publish("svc/a", "d.json", doc(2))
			v := watch(t, s)
			s.set(old)
			time.Sleep(5 * time.Minute)
			if v.Load().Max != 2 || !v.Stale() {
				t.Errorf("an old store was believed: %+v, stale %v", v.Current(), v.Stale())
			}
			s.set(func(s *fakeStore) { s.cluster++ })
			waitMax(t, v, 1, c.within)
			if v.Stale() {
				t.Error("the value of the new cluster is stale")
			}
		})
	}
}

// TestStale: true after twice Refresh without a word of the cluster, false at the next one.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.publish("svc/a", "d.json", doc(1))
		v := watch(t, s, config.Refresh(time.Second))
		for range 100 {
			if time.Sleep(100 * time.Millisecond); v.Stale() {
				t.Fatal("stale while the store answers")
			}
		}
		s.set(func(s *fakeStore) { s.down = true })
		time.Sleep(600 * time.Millisecond)
		if v.Stale() {
			t.Error("stale too soon")
		}
		if time.Sleep(1500 * time.Millisecond); !v.Stale() || v.Load().Max != 1 {
			t.Errorf("not stale: %+v", v.Current())
		}
		s.set(func(s *fakeStore) { s.down = false })
		if time.Sleep(1300 * time.Millisecond); v.Stale() {
			t.Error("still stale")
		}
	})
}

// TestColdStart: while the cluster is down a process starts with the last good version, stale until it is confirmed.
func TestColdStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newFakeStore(), filepath.Join(t.TempDir(), "copy")
		s.publish("svc/a", "d.json", doc(1))
		v := watch(t, s, config.Copy(path), config.Validate(positive))
		synctest.Wait()
		rev := s.publish("svc/a", "d.json", doc(2))
		s.publish("svc/a", "d.json", doc(-1)) // is refused, so it is not copied
		synctest.Wait()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the copy: %v, %v", info, err)
		}
		v.Close()
		s.set(func(s *fakeStore) { s.down = true })
		began := time.Now()
		v = watch(t, s, config.Copy(path), config.Validate(positive), config.Patience(3*time.Second))
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %v to fall back on the copy", took)
		}
		if v.Load().Max != 2 || v.Rev() != rev || v.Version() != 2 || !v.Stale() || v.Err() != nil {
			t.Errorf("from the copy: %+v, stale %v, error %v", v.Current(), v.Stale(), v.Err())
		}
		s.set(func(s *fakeStore) { s.down = false })
		time.Sleep(2*time.Second + time.Millisecond)
		if v.Load().Max != 2 || v.Stale() || !errors.Is(v.Err(), config.ErrRefused) {
			t.Errorf("confirmed: %+v, stale %v, error %v", v.Current(), v.Stale(), v.Err())
		}
		s.publish("svc/a", "d.json", doc(4))
		synctest.Wait()
		if v.Load().Max != 4 || v.Err() != nil {
			t.Errorf("afterwards: %+v, error %v", v.Current(), v.Err())
		}
		if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
			t.Errorf("left beside the copy: %v, %v", files, err)
		}
	})
}

// TestFirstValue: the order of current version, copy and default, and the error when there is none of them.
func TestFirstValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		good, other, damaged := filepath.Join(dir, "good"), filepath.Join(dir, "other"), filepath.Join(dir, "damaged")
		writer := newFakeStore()
		writer.publish("svc/a", "d.json", doc(5))
		watch(t, writer, config.Copy(good))
		ov, err := config.Watch[limits](t.Context(), writer, "svc/other", config.Copy(other), config.Default(limits{1}))
		if err != nil {
			t.Fatal(err)
		}
		writer.publish("svc/other", "d.json", doc(6))
		waitMax(t, ov, 6, 3*time.Second)
		ov.Close()
		text, err := os.ReadFile(good)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(damaged, []byte(strings.Replace(string(text), "svc/a", "svc/b", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		empty := func(*fakeStore) {}
		refused := func(s *fakeStore) { s.publish("svc/a", "d.json", doc(-1)) }
		down := func(s *fakeStore) { s.down = true }
		fine := func(s *fakeStore) { s.publish("svc/a", "d.json", doc(7)) }
		cases := map[string]struct {
			store func(*fakeStore)
			opts  []config.Option
			want  int
			err   error
			text  string
		}{
			"fine":       {fine, []config.Option{config.Copy(good), config.Default(limits{1})}, 7, nil, ""},
			"down, copy": {down, []config.Option{config.Copy(good), config.Default(limits{1})}, 5, nil, ""},
			"down, no copy": {down,
				[]config.Option{config.Copy(filepath.Join(dir, "none")), config.Default(limits{1})}, 1, nil, ""},
			"down":             {down, nil, 0, errDown, "cannot be reached"},
			"down, damaged":    {down, []config.Option{config.Copy(damaged)}, 0, errDown, "its checksum differs"},
			"down, another":    {down, []config.Option{config.Copy(other)}, 0, errDown, `of bundle "svc/other"`},
			"empty":            {empty, nil, 0, config.ErrUnknownBundle, `watch "svc/a"`},
			"empty, default":   {empty, []config.Option{config.Default(limits{1})}, 1, nil, ""},
			"empty, copy":      {empty, []config.Option{config.Copy(good)}, 5, nil, ""},
			"refused":          {refused, nil, 0, config.ErrRefused, "max is -1"},
			"refused, copy":    {refused, []config.Option{config.Copy(good)}, 5, nil, ""},
			"refused, default": {refused, []config.Option{config.Default(limits{1})}, 1, nil, ""},
		}
		for _, name := range slices.Sorted(maps.Keys(cases)) {
			c := cases[name]
			if err := os.WriteFile(good, text, 0o600); err != nil {
				t.Fatal(err)
			}
			s := newFakeStore()
			c.store(s)
			v, err := config.Watch[limits](t.Context(), s, "svc/a", append(c.opts, config.Validate(positive))...)
			if err != nil || c.err != nil {
				if !errors.Is(err, c.err) || err == nil || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: error %v, want %v with %q", name, err, c.err, c.text)
				}
				continue
			}
			if v.Load().Max != c.want {
				t.Errorf("%s: the first value is %d, want %d", name, v.Load().Max, c.want)
			}
			how, _, _ := strings.Cut(name, ",")
			if (how == "down") != v.Stale() || (how == "refused") != errors.Is(v.Err(), config.ErrRefused) ||
				(how == "empty") != errors.Is(v.Err(), config.ErrUnknownBundle) {
				t.Errorf("%s: error %v, stale %v", name, v.Err(), v.Stale())
			}
			v.Close()
		}
	})
}

// TestCopyThatCannotBeWritten is told, and the value is taken nevertheless.
func TestCopyThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := newFakeStore(), filepath.Join(t.TempDir(), "later")
		s.publish("svc/a", "d.json", doc(1))
		v := watch(t, s, config.Copy(filepath.Join(dir, "copy")))
		if v.Load().Max != 1 || !errors.Is(v.Err(), os.ErrNotExist) {
			t.Errorf("%+v, error %v", v.Current(), v.Err())
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.publish("svc/a", "d.json", doc(2))
		synctest.Wait()
		if v.Load().Max != 2 || v.Err() != nil {
			t.Errorf("%+v, error %v", v.Current(), v.Err())
		}
	})
}

// TestReportMovesToTheNextLease: when the session was replaced, the report is written again on the new lease, and an
// outage does not lose it.
func TestReportMovesToTheNextLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.publish("svc/a", "d.json", doc(1))
		var lease atomic.Int64
		lease.Store(11)
		v := watch(t, s, config.Report(s, "n", func() clientv3.LeaseID { return clientv3.LeaseID(lease.Load()) }))
		synctest.Wait()
		if _, on := s.status("svc/a", "n"); on != 11 {
			t.Errorf("the report is on lease %x", on)
		}
		s.delete(layout.StatusKey("svc/a", "n"))
		s.set(func(s *fakeStore) { s.lost[11] = true })
		s.publish("svc/a", "d.json", doc(2))
		time.Sleep(10 * time.Second)
		if st, _ := s.status("svc/a", "n"); st != nil || v.Load().Max != 2 {
			t.Errorf("a report on a lost lease: %v; value %+v", st, v.Current())
		}
		lease.Store(12)
		time.Sleep(2*time.Second + time.Millisecond)
		if st, on := s.status("svc/a", "n"); st.GetApplied() != 2 || on != 12 {
			t.Errorf("the report is %v on lease %x", st, on)
		}
		s.delete(layout.StatusKey("svc/a", "n"))
		lease.Store(13)
		time.Sleep(config.DefaultRefresh + time.Second)
		if st, on := s.status("svc/a", "n"); st.GetApplied() != 2 || on != 13 {
			t.Errorf("without a change the report is %v on lease %x", st, on)
		}
	})
}

func TestOptionsOfAnotherType(t *testing.T) {
	s := newFakeStore()
	s.publish("svc/a", "d.json", doc(1))
	for name, opt := range map[string]config.Option{
		"Validate": config.Validate(func(int) error { return nil }),
		"OnChange": config.OnChange(func(_, _ config.Snapshot[string]) {}),
		"Decode":   config.Decode(func(config.Documents) (string, error) { return "", nil }),
		"Default":  config.Default("x"),
		"refresh":  config.Refresh(0),
	} {
		if _, err := config.Watch[limits](t.Context(), s, "svc/a",
			opt); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := config.Watch[limits](ctx, s, "svc/a"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

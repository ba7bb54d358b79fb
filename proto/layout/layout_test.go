package layout

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// TestKeys: no key changes: they are on disk, and etcd's clients know those in etcd's layout.
func TestKeys(t *testing.T) {
	const coming = "a/b/7.me"
	for _, c := range []struct {
		key string
		is  Key
	}{
		{coming, Key{Lock, "a/b", Entry, "7.me"}},
		{"a/b/leader", Key{Lock, "a/b", Other, "leader"}},
		{"a/\xff", Key{Lock, "a", Other, "\xff"}},
		{"a/", Key{Lock, "a", Other, ""}},
		{"_coord/elections/" + coming, Key{Election, "a/b", Entry, "7.me"}},
		{"_coord/elections/a/leader", Key{Election, "a", Leader, ""}},
		{"_coord/rwlocks/" + coming, Key{RWLock, "a/b", Entry, "7.me"}},
		{"_coord/rwlocks/a/tally", Key{RWLock, "a", Counts, ""}},
		{"_coord/rwlocks/a/07", Key{RWLock, "a", Other, "07"}},
		{"_coord/semaphores/" + coming, Key{Semaphore, "a/b", Entry, "7.me"}},
		{"_coord/semaphores/a/tally", Key{Semaphore, "a", Counts, ""}},
		{"_coord/semaphores/a/limit", Key{Semaphore, "a", Limit, ""}},
		{"_coord/barriers/" + coming, Key{Barrier, "a/b", Entry, "7.me"}},
		{"_coord/barriers/a/state", Key{Barrier, "a", State, ""}},
		{"_coord/asks/" + coming, Key{Lock, "a/b", Ask, "7.me"}},
		{"_coord/asks/_coord/rwlocks/" + coming, Key{RWLock, "a/b", Ask, "7.me"}},
		{"_coord/transfers/a/b", Key{Lock, "a/b", Transfer, ""}},
		{"_coord/transfers/_coord/elections/a/b", Key{Election, "a/b", Transfer, ""}},
		{"_coord/counters/a/b", Key{Counter, "a/b", Whole, ""}},
		{"_coord/sequences/a", Key{Sequence, "a", Whole, ""}},
		{"_coord/latches/a", Key{Latch, "a", Whole, ""}},
		{"_coord/gates/a", Key{Gate, "a", Whole, ""}},
		{"_coord/groups/a/b/host:1", Key{Group, "a/b", GroupMember, "host:1"}},
		{"_coord/groups/a/b c", Key{Group, "a", Other, "b c"}},
		{"_coord/services/a%2Fb/instances/h:1", Key{Service, "a/b", Instance, "h:1"}},
		{"_coord/services/a/orders/%2F", Key{Service, "a", Order, "/"}},
		{"_coord/services/a/probes/x", Key{Service, "a", Probe, "x"}},
		{"_coord/services/a/weights/x", Key{Service, "a", Other, "weights/x"}},
		{"_coord/config/svc%2Fa/current", Key{Bundle, "svc/a", Current, ""}},
		{"_coord/config/a/versions/000000000000002a", Key{Bundle, "a", Version, "000000000000002a"}},
		{"_coord/config/a/schemas", Key{Bundle, "a", Schemas, ""}},
		{"_coord/config/a/status/", Key{Bundle, "a", Other, "status/"}},
		{"_coord/config/a/status/n%2F1", Key{Bundle, "a", Status, "n/1"}},
	} {
		if got, ok := Parse(c.key); got != c.is || !ok {
			t.Errorf("%q is %+v %v, want %+v", c.key, got, ok, c.is)
		}
		if got := c.is.Encode(); got != c.key {
			t.Errorf("%+v is at %q, want %q", c.is, got, c.key)
		}
	}
	for got, want := range map[string]string{
		VersionKey("a", 42): "_coord/config/a/versions/000000000000002a", StatusPrefix("a"): "_coord/config/a/status/",
		SchemasKey("a"): "_coord/config/a/schemas",
		CurrentKey("a"): "_coord/config/a/current", EndpointKey("a/b", "h:1"): "a/b/h:1",
		MemberKey("g", "m"):   "_coord/groups/g/m",
		InstanceKey("a", "/"): "_coord/services/a/instances/%2F", OrderKey("a", "x"): "_coord/services/a/orders/x",
		ProbedKey("a", "x"):    "_coord/services/a/probes/x",
		EntryKey("q", 255, ""): "q/ff", EntryKey("q", 1, "o"): "q/1.o", ElectionQueue("e", 0): "e",
		ElectionQueue("e", 1): "_coord/elections/e",
		Service.Begin("a/"):   "_coord/services/a%2F", Group.Prefix("a"): "_coord/groups/a/", Lock.Begin("a"): "a",
		Counter.Key("a"): "_coord/counters/a",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNoKey: what belongs to nothing with a valid name comes not apart.
func TestNoKey(t *testing.T) {
	for _, key := range []string{
		"", "a", "/7", "a//7", "\xff/7", "_coord/7", "_coord/", "_coord/unknown/a", "_coord/rwlocks", "_coord/rwlocks/",
		"_coord/rwlocks/7", "_coord/rwlocks//7",
		"_coord/rwlocks/_coord/x/7", "_coord/counters/", "_coord/counters/a/", "_coord/counters/\xff", "_coord/asks/a",
		"_coord/asks/a/x",
		"_coord/asks/_coord/asks/a/7", "_coord/asks/_coord/rwlocks/a/tally", "_coord/transfers/",
		"_coord/transfers/_coord/counters/a",
		"_coord/services/a", "_coord/services//instances/x", "_coord/services/%61/instances/x",
		"_coord/services/%zz/instances/x", "_coord/services/_coordx/orders/x",
		"_coord/config/%0A/current",
	} {
		if p, ok := Parse(key); ok {
			t.Errorf("%q is %+v", key, p)
		}
	}
}

// names draws names that are hard to tell apart, valid or not: prefixes of each other, with empty parts, words of the
// layout, not UTF-8.
var names = rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{
	"a", "a", "b", "/", "/", "0", ".", "7", "%2F", "%", "ü", "\xff", "\n", "_coord", "_coord/", "rwlocks/", "tally",
	"leader", "instances", "asks/",
}), 0, 6), func(parts []string) string { return strings.Join(parts, "") })

func drawKind(t *rapid.T, label string) Kind { return rapid.SampledFrom(Kinds()).Draw(t, label) }

// drawName draws a valid name of the kind.
func drawName(t *rapid.T, k Kind, label string) string {
	return names.Filter(func(name string) bool { return k.Check(name) == nil }).Draw(t, label)
}

// drawKey draws keys of which many, but not all, belong to something.
func drawKey(t *rapid.T) string {
	key := names.Draw(t, "key")
	if rapid.Bool().Draw(t, "below a directory") {
		key = drawKind(t, "kind").Dir() + key
	}
	end := rapid.SampledFrom([]string{"", "/", "/7", "/7.me", "/07", "/tally", "/state", "/limit", "/leader", "/m",
		"/instances/x", "/versions/01", "/current", "/status/"})
	key += end.Draw(t, "end")
	return rapid.SampledFrom([]string{"", "", "", asks, transfers}).Draw(t, "in front") + key
}

func contains(ranges []Range, key string) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.Contains(key) })
}

// TestKeyIsInRange: a key, taken apart, is the same when it is put together, and in a range of the name that it belongs
// to.
func TestKeyIsInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey(t)
		p, ok := Parse(key)
		switch {
		case !ok:
			return
		case p.Kind.Check(p.Name) != nil:
			t.Fatalf("%q is %+v, whose name is none", key, p)
		case p.Encode() != key:
			t.Fatalf("%q is %+v, which is at %q", key, p, p.Encode())
		case !contains(p.Kind.Ranges(p.Name), key):
			t.Fatalf("%q is %+v, in none of %q", key, p, p.Kind.Ranges(p.Name))
		}
	})
}

// parts are those of each shape, with ids that they can have.
func parts(k Kind) map[Part][]string {
	switch shape := table[k].shape.(type) {
	case entries:
		of := map[Part][]string{Entry: {"7", "7.me", "7fffffffffffffff"}, Ask: {"1", "a.b-c"}, Transfer: {""}}
		for _, record := range shape {
			of[record] = []string{""}
		}
		return of
	case members:
		return map[Part][]string{GroupMember: {"m", "host:1@x", "tally"}}
	case escaped:
		of := map[Part][]string{}
		for _, part := range shape.one {
			of[part] = []string{""}
		}
		for _, part := range shape.many {
			of[part] = []string{"a", "a/b", "%2F", "ü", "instances"}
		}
		return of
	}
	return map[Part][]string{Whole: {""}}
}

// TestEveryPartIsFound: each part of each name has a key that says all of it again, and stands in the range of its kind
// and name.
func TestEveryPartIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := drawKind(t, "kind")
		p := Key{Kind: k, Name: drawName(t, k, "name")}
		of := parts(k)
		p.Part = rapid.SampledFrom(slices.Sorted(maps.Keys(of))).Draw(t, "part")
		p.ID = rapid.SampledFrom(of[p.Part]).Draw(t, "id")
		if got, ok := Parse(p.Encode()); got != p || !ok {
			t.Fatalf("%+v is at %q, which is %+v %v", p, p.Encode(), got, ok)
		}
		if !contains(k.Ranges(p.Name), p.Encode()) {
			t.Fatalf("%q is in none of %q", p.Encode(), k.Ranges(p.Name))
		}
		if !strings.HasPrefix(k.Range(p.Name).Key, k.Begin(p.Name)) || !strings.HasPrefix(k.Begin(p.Name), k.Dir()) {
			t.Fatalf("%q does not begin with %q, or that with %q", k.Range(p.Name).Key, k.Begin(p.Name), k.Dir())
		}
		if k == Service && !contains(k.Ranges(p.Name), EndpointKey(p.Name, "h:1")) {
			t.Fatalf("the mirrors of %q are in none of %q", p.Name, k.Ranges(p.Name))
		}
	})
}

func (r Range) overlaps(o Range) bool {
	last := func(r Range) string {
		if r.End == "" {
			return r.Key + "\x00"
		}
		return r.End
	}
	return r.Key < last(o) && o.Key < last(r)
}

// meet says whether two names share keys by the layout: where names nest, and in etcd's layout also of different kinds.
func meet(k Kind, name string, o Kind, other string) bool {
	etcds := []Kind{Lock, Election, Service}
	nest := []Kind{RWLock, Semaphore, Barrier, Group}
	if !(k == o && slices.Contains(nest, k)) && !(slices.Contains(etcds, k) && slices.Contains(etcds, o)) {
		return k == o && name == other
	}
	return name == other || strings.HasPrefix(name, other+"/") || strings.HasPrefix(other, name+"/")
}

// TestRangesOverlapOnlyAsDocumented: see the package doc.
func TestRangesOverlapOnlyAsDocumented(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, o := drawKind(t, "kind"), drawKind(t, "other kind")
		if rapid.Bool().Draw(t, "same kind") {
			o = k
		}
		name, other := drawName(t, k, "name"), drawName(t, o, "other name")
		if longer := other + "/" + name; rapid.Bool().Draw(t, "nested") && k.Check(longer) == nil {
			name = longer
		}
		overlap := false
		for _, r := range k.Ranges(name) {
			overlap = overlap || slices.ContainsFunc(o.Ranges(other), r.overlaps)
		}
		if want := meet(k, name, o, other); overlap != want {
			t.Fatalf("%s %q and %s %q overlap: %v, want %v: %q and %q", k, name, o, other, overlap, want,
				k.Ranges(name), o.Ranges(other))
		}
	})
}

// TestQueues: a queue says its kind and name again, and each kind on the wire has one.
func TestQueues(t *testing.T) {
	for value := range coordv1.QueueKind_name {
		kind := coordv1.QueueKind(value)
		queue := QueueOf(kind, "a/b")
		want := kind
		switch kind {
		case coordv1.QueueKind_QUEUE_UNSPECIFIED, coordv1.QueueKind_QUEUE_LOCK, coordv1.QueueKind_QUEUE_ELECTION:
			want = coordv1.QueueKind_QUEUE_ETCD
		}
		if KindOf(queue) != want || NameOf(queue) != "a/b" || !slices.Contains(QueueKinds(), want) ||
			QueueOfName("a/b", EntryKey(queue, 1, "")) != queue {
			t.Errorf("%s: queue %q is %s of %q", kind, queue, KindOf(queue), NameOf(queue))
		}
	}
	for _, none := range []string{"_coord/counters/a", "_coord/rwlocks", "_coord/asks/a"} {
		if KindOf(none) != coordv1.QueueKind_QUEUE_ETCD || NameOf(none) != none {
			t.Errorf("%q is the queue %q of kind %s", none, NameOf(none), KindOf(none))
		}
	}
}

// TestTableIsUnambiguous: each kind has a word, and no directory begins with another one, or clients could mix them up.
func TestTableIsUnambiguous(t *testing.T) {
	dirs := []string{asks, transfers}
	words := map[string]bool{"": true}
	for _, k := range Kinds() {
		if words[k.String()] {
			t.Errorf("kind %d has the word %q", k, k)
		}
		words[k.String()] = true
		if k != Lock {
			dirs = append(dirs, k.Dir())
		}
	}
	for i, dir := range dirs {
		if !strings.HasPrefix(dir, Reserved) || !strings.HasSuffix(dir, "/") || ReservedEnd <= dir {
			t.Errorf("%q is no directory of %s", dir, Reserved)
		}
		for j, other := range dirs {
			if i != j && strings.HasPrefix(dir, other) {
				t.Errorf("%q is below %q", dir, other)
			}
		}
	}
}

// TestNames: what names are refused, and in which words; clients show them.
func TestNames(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	for _, c := range []struct {
		check func(string) error
		name  string
		want  string // "": it is one
	}{
		{CheckName, "a/_coord", ""}, {CheckName, "_coordinates", ""}, {CheckName, "//a", ""}, {CheckName, "a\n", ""},
		{CheckName, long[1:], ""},
		{CheckName, "", "name is empty"}, {CheckName, long, "name has 1025 bytes, more than 1024"}, {CheckName, "a/", `name "a/" ends in a slash`},
		{CheckName, "\xff", `name "\xff" is not UTF-8`}, {CheckName, "_coord", `name "_coord" is reserved`},
		{CheckName, "_coord/a", `name "_coord/a" begins with _coord/, which is reserved`},
		{CheckMember, "a_.:@-Z9", ""}, {CheckMember, "", "member id has 0 bytes, not between 1 and 128"},
		{CheckMember, "a/b", `member id "a/b" has other characters than 0-9, A-Z, a-z and _.:@-`},
		{CheckOwnerID, "", ""}, {CheckOwnerID, "a_-Z9", ""},
		{CheckOwnerID, long[:65], "owner id has 65 bytes, more than 64"},
		{CheckOwnerID, "a.b", `owner id "a.b" has other characters than 0-9, A-Z, a-z, _ and -`},
		{CheckService, "a/ü/", ""}, {CheckService, "", "bad name: no service"},
		{CheckService, long[:257], "bad name: a service of 257 bytes, at most 256"},
		{CheckService, "a\n", `bad name: service "a\n" has characters that cannot be shown`},
		{CheckService, "_coordx", `bad name: service "_coordx" begins with _coord, which is reserved`},
		{CheckInstance, "_coord", ""}, {CheckInstance, "", "bad name: no id"}, {CheckBundle, "_coord/x", ""},
		{CheckBundle, "\xff", `bad name: name "\xff" has characters that cannot be shown`},
	} {
		switch err := c.check(c.name); {
		case c.want == "" && err != nil, c.want != "" && (err == nil || err.Error() != c.want):
			t.Errorf("%.20q: %v, want %q", c.name, err, c.want)
		case strings.HasPrefix(c.want, "bad name") != errors.Is(err, ErrBadName):
			t.Errorf("%.20q: %v is ErrBadName: %v", c.name, err, errors.Is(err, ErrBadName))
		}
	}
}

// FuzzParse: whatever a key is, it is put together as it was, and stands in a range of its name.
func FuzzParse(f *testing.F) {
	for _, key := range []string{"a/7", "_coord/asks/_coord/rwlocks/a/7", "_coord/transfers/a",
		"_coord/services/a%2Fb/instances/x", "_coord/groups/g/m", "_coord/counters/c"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if p, ok := Parse(key); ok && (p.Encode() != key || !contains(p.Kind.Ranges(p.Name), key)) {
			t.Errorf("%q is %+v, at %q, in %q", key, p, p.Encode(), p.Kind.Ranges(p.Name))
		}
	})
}

package layout

import (
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Reserved begins the keys that are not in etcd's layout, which only procedures put and delete one by one; no name
// begins so. ReservedEnd is behind all of them.
const (
	Reserved    = "_coord/"
	ReservedEnd = "_coord0" // '0' follows '/'
)

// Kind is a kind of thing that has a name. The zero value is none. The numbers are not stored and not sent.
type Kind int

const (
	// Lock is the kind of all keys in etcd's layout: a key does not say whether it is a lock's, an election's or its
	// own.
	Lock Kind = 1 + iota
	// Election has the directory of elections with priorities; its ranges are those of a lock, too, for those without.
	Election
	RWLock
	Semaphore
	Barrier
	Counter
	Sequence
	Latch
	Gate
	Group
	// Service is a service of the registry with its instances. Its ranges are those below its directory, and the
	// mirrors of its instances in etcd's layout, whose keys Parse takes for a lock's.
	Service
	Bundle // of configuration
)

// row is what there is to know of a kind.
type row struct {
	word  string // what people call it
	dir   string // what its keys begin with, "" for etcd's layout
	shape shape  // of what follows
	check func(name string) error
	queue coordv1.QueueKind // 0: it is no queue
}

// table has a row for each kind. No directory is a prefix of another one.
var table = [...]row{
	Lock: {"lock", "", entries{}, CheckName, coordv1.QueueKind_QUEUE_ETCD},
	Election: {"election", Reserved + "elections/", entries{Leader}, CheckName,
		coordv1.QueueKind_QUEUE_PRIORITY_ELECTION},
	RWLock: {"rwlock", Reserved + "rwlocks/", entries{Counts}, CheckName, coordv1.QueueKind_QUEUE_RWLOCK},
	Semaphore: {"semaphore", Reserved + "semaphores/", entries{Counts, Limit}, CheckName,
		coordv1.QueueKind_QUEUE_SEMAPHORE},
	Barrier:  {"barrier", Reserved + "barriers/", entries{State}, CheckName, coordv1.QueueKind_QUEUE_BARRIER},
	Counter:  {"counter", Reserved + "counters/", oneKey{}, CheckName, 0},
	Sequence: {"sequence", Reserved + "sequences/", oneKey{}, CheckName, 0},
	Latch:    {"latch", Reserved + "latches/", oneKey{}, CheckName, 0},
	Gate:     {"gate", Reserved + "gates/", oneKey{}, CheckName, 0},
	Group:    {"group", Reserved + "groups/", members{}, CheckName, 0},
	Service:  {"service", Reserved + "services/", escaped{many: []Part{Instance, Order, Probe}}, CheckService, 0},
	Bundle: {"bundle", Reserved + "config/", escaped{one: []Part{Current, Schemas}, many: []Part{Version, Status}},
		CheckBundle, 0},
}

// firstReserved and lastQueue bound the kinds of queues with a directory.
const (
	firstReserved = Election
	lastQueue     = Barrier
)

// Directories of the keys that belong to queues of all kinds.
const (
	asks      = Reserved + "asks/"
	transfers = Reserved + "transfers/"
)

// Kinds are all kinds, in the order of their numbers.
func Kinds() []Kind {
	kinds := make([]Kind, 0, len(table)-1)
	for k := Lock; int(k) < len(table); k++ {
		kinds = append(kinds, k)
	}
	return kinds
}

// String is what people call a kind, like "semaphore".
func (k Kind) String() string { return table[k].word }

// Check says why name cannot be that of something of the kind, nil if it can.
func (k Kind) Check(name string) error { return table[k].check(name) }

// Dir is what the keys of the kind begin with; empty for Lock, whose names come first.
func (k Kind) Dir() string { return table[k].dir }

// Begin is what the keys begin with of all names that begin with name.
func (k Kind) Begin(name string) string { return table[k].dir + table[k].shape.begin(name) }

// Prefix is what the keys begin with that a name's Range has, if these are several.
func (k Kind) Prefix(name string) string { return k.Begin(name) + "/" }

// Key is the key of a thing that has no other: a counter, a sequence, a latch, a gate.
func (k Kind) Key(name string) string { return Key{Kind: k, Name: name}.Encode() }

// Range is where the keys of a name stand that its kind has for itself: the first of Ranges.
func (k Kind) Range(name string) Range { return table[k].shape.keys(table[k].dir, name) }

// Ranges is where all keys of a name stand. See the package doc for those that overlap.
func (k Kind) Ranges(name string) []Range {
	ranges := []Range{k.Range(name)}
	if table[k].queue != 0 {
		queue := table[k].dir + name
		ranges = append(ranges, below(asks+queue+"/"), Range{Key: TransferKey(queue)})
	}
	switch k {
	case Election:
		ranges = append(ranges, Lock.Ranges(name)...)
	case Service:
		ranges = append(ranges, below(EndpointPrefix(name)))
	}
	return ranges
}

// Range is an interval of keys, [Key, End), or Key alone if End is empty.
type Range struct{ Key, End string }

// below is the range of the keys that begin with prefix, which ends in a slash.
func below(prefix string) Range { return Range{prefix, prefix[:len(prefix)-1] + "0"} }

// Contains reports whether a key is in the range.
func (r Range) Contains(key string) bool {
	if r.End == "" {
		return key == r.Key
	}
	return r.Key <= key && key < r.End
}

// Bytes is the range as requests have it. A range of one key has no end.
func (r Range) Bytes() (key, end []byte) {
	if r.End == "" {
		return []byte(r.Key), nil
	}
	return []byte(r.Key), []byte(r.End)
}

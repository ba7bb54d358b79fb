package layout

import "strings"

// Part is what a key is of the thing it belongs to. Where the key has a word for it, that is the part.
type Part string

const (
	Whole       Part = ""         // the thing has this key only
	Entry       Part = "entry"    // of a queue: who holds or waits; its id is the lease, and the owner's behind a dot
	Leader      Part = "leader"   // of an election with priorities
	Counts      Part = "tally"    // of a read-write lock or a semaphore
	Limit       Part = "limit"    // of a semaphore
	State       Part = "state"    // of a barrier
	Ask         Part = "ask"      // that the holder with this entry release; its id is the entry's
	Transfer    Part = "transfer" // the last one in a queue
	GroupMember Part = "member"   // by its id
	Instance    Part = "instances"
	Order       Part = "orders"
	Probe       Part = "probes"
	Endpoint    Part = "endpoint" // of a service in etcd's layout, by its address; Parse takes it for a lock's
	Current     Part = "current"
	Schemas     Part = "schemas"
	Version     Part = "versions" // its id is the number in hex
	Status      Part = "status"   // by the client's name
	// Other is no part that is known here: a key of an etcd client, or one of a later version. Its id is what follows
	// the name's slash.
	Other Part = "other"
)

// Key is a key, taken apart.
type Key struct {
	Kind Kind
	Name string
	Part Part
	ID   string // which one, where there are several of a part
}

// Encode puts the key together. It is the reverse of Parse, if the name is one.
func (p Key) Encode() string {
	dir := table[p.Kind].dir
	switch p.Part {
	case Ask:
		return AskKey(dir + p.Name + "/" + p.ID)
	case Transfer:
		return TransferKey(dir + p.Name)
	case Endpoint:
		return EndpointKey(p.Name, p.ID)
	}
	return dir + table[p.Kind].shape.join(p.Name, p.Part, p.ID)
}

// Parse takes a key apart; ok is false if it belongs to nothing that has a valid name. Of a key in etcd's layout it
// says what it is if it is a lock's, which everything with a slash may be. The key is in a range of its kind and name.
// Different keys come apart into different ones.
func Parse(key string) (p Key, ok bool) {
	if !strings.HasPrefix(key, Reserved) {
		return parseIn(Lock, key)
	}
	if entry, ok := AskedEntry(key); ok {
		p, ok := Parse(entry)
		ok = ok && p.Part == Entry
		p.Part = Ask
		return p, ok
	}
	if queue, ok := TransferredQueue(key); ok {
		kind := kindOf(queue)
		p = Key{Kind: kind, Name: queue[len(table[kind].dir):], Part: Transfer}
		return p, kind.Check(p.Name) == nil
	}
	for k := firstReserved; int(k) < len(table); k++ {
		if strings.HasPrefix(key, table[k].dir) {
			return parseIn(k, key)
		}
	}
	return Key{}, false
}

func parseIn(k Kind, key string) (p Key, ok bool) {
	p.Kind = k
	p.Name, p.Part, p.ID, ok = table[k].shape.split(key[len(table[k].dir):])
	return p, ok && k.Check(p.Name) == nil
}

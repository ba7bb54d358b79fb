// Package mvcc is the layout of a keyspace in Pebble: the bytes of each key and record, the ordered overlay in which a
// batch of commands sees its own writes, and reads of the latest state, of the past, and of the history of changes.
//
// # Keys
//
// Each key begins with one byte that names its space. Integers are big endian, so that byte order is numeric order; ^x
// is the complement, for descending order. No space needs more than bytes.Compare:
//
//	01 key                                         live      → record of the latest version; deleted with the key
//	02 esc(key) 00 01 | ^main:8 ^sub:4 0d          versions  → record, or empty for a tombstone
//	03 main:8 sub:4                                changes   → key
//	04 lease:8                                     leases    → lease/table.go
//	05 lease:8 key                                 lease keys → machine/attachment.go; empty: nothing noted
//	06 index:8 ordinal:4                           renewals  → lease/table.go
//	08 name                                        meta
//	09 member:8                                    members   → raftv1.Member
//	0a type:4 member:8                             alarms    → empty
//	0b member:8                                    executed  → numbers of executed entries, machine/executed.go
//	0c stream:8                                    streams   → lease/table.go
//	0d lease:8                                     sessions  → machine/sessions.go
//	0e lease:8 index:8 ordinal:4                   outcomes  → what a command with requests of a session brought
//	                                                           about, machine/outcomes.go
//	0f queue                                       broken    → a queue for which a reaction failed, machine/broken.go
//	10 index:8 command:4 request:4                 refused   → empty: the operator has refused it, machine/refused.go
//	18                                             children  → revision up to which they are stored
//	18 esc(parent) 00 01 | create:8 base           children  → empty; deleted with the key
//
// esc(key) replaces each 00 by 00 ff; the terminator 00 01 then makes the encoding prefix-free and order-preserving
// ("a" sorts before "a\x00" before "ab"). In the versions space Pebble's Split ends after the terminator: prefix bloom
// filters and NextPrefix work by user key. A full key there ends in 0d (the length of its suffix), a bare prefix in 01.
//
// # Children
//
// A key that contains a slash is a child of what stands before its last one: "job/7" is a child of "job" with the base
// "7", "job/" one with an empty base, and "job/1/7" is none of "job". Each live key that is a child has a row in the
// index of children, made when the key is created and deleted with it; what is put over a key keeps its create revision
// and so its row. The rows of one parent are contiguous and in the order of create revisions, so the head of a queue is
// the first row of its parent, however many keys are queued there and however many stand deeper below.
//
// The rows are a function of the live ones. They are stored all the same, since to make them anew at a start would take
// time that grows with the number of keys; only those of the last changes are not stored yet, see Index. Where they are
// differs between replicas, so the space is not part of the state hash. See parents.go for how tombstones are passed
// over.
//
// # Records
//
//	uvarint create revision | uvarint mod revision | uvarint version | uvarint lease | value
//
// The latest version stands twice, in live and in versions, with the same bytes. Reads of the latest state, compares,
// counts and heads of queues (nearly all reads) then never wade through dead versions, and a point read is one exact
// get; the price is one more copy of each value on disk until it is overwritten.
package mvcc

// Package mvcc is the layout of a keyspace in Pebble: the bytes of each key and record, the ordered overlay in which a
// batch of commands sees its own writes, and reads of the latest state, of the past, and of the history of changes.
//
// # Keys
//
// Each key begins with one byte that names its space. Integers are big endian, so that byte order is numeric order; ^x is
// the complement, for descending order. No space needs more than bytes.Compare:
//
//	01 key                                         live      → record of the latest version; deleted with the key
//	02 esc(key) 00 01 | ^main:8 ^sub:4 0d          versions  → record, or empty for a tombstone
//	03 main:8 sub:4                                changes   → key
//	04 lease:8                                     leases    → package lease
//	05 lease:8 key                                 lease keys → attachment, see statemachine; empty: nothing noted
//	06 index:8 ordinal:4                           renewals  → package lease
//	08 name                                        meta
//	09 member:8                                    members   → raftv1.Member
//	0a type:4 member:8                             alarms    → empty
//	0b member:8                                    executed  → numbers of executed entries, see statemachine
//	0c stream:8                                    streams   → package lease
//	0d lease:8                                     sessions  → session, see statemachine
//	0e lease:8 index:8 ordinal:4                   outcomes  → what a command with requests of a session brought about, see
//	                                                           statemachine
//	0f queue                                       broken    → a queue for which a reaction failed, see statemachine
//
// esc(key) replaces each 00 by 00 ff; the terminator 00 01 then makes the encoding prefix-free and order-preserving ("a"
// sorts before "a\x00" before "ab"). In the versions space Pebble's Split ends after the terminator: prefix bloom filters
// and NextPrefix work by user key. A full key there ends in 0d (the length of its suffix), a bare prefix in 01.
//
// # Records
//
//	uvarint create revision | uvarint mod revision | uvarint version | uvarint lease | value
//
// The latest version stands twice, in live and in versions, with the same bytes. Reads of the latest state, compares,
// counts and heads of queues (nearly all reads) then never wade through dead versions, and a point read is one exact get;
// the price is one more copy of each value on disk until it is overwritten.
package mvcc

// Package datadir opens and guards the directory in which one member keeps its data, and introduces the member to its
// peers before it takes part in Raft.
//
// # Layout
//
//	<data-dir>/LOCK                 exclusive flock while a process runs; holds that process' id
//	<data-dir>/member/meta.json     {"crc32c": "…", "meta": {…}}, replaced atomically and durably
//	<data-dir>/member/wal/          Dragonboat's directory (or --wal-dir)      part "wal"
//	<data-dir>/member/db/           the state machine's store                  part "db"
//	<data-dir>/member/ballast       space given back when the disk fills up
//
// Each part holds a file COORD-PART that carries the directory's incarnation, a random number drawn when the directory
// was created. Whoever writes into a part must leave that file alone.
//
// # A start
//
//	d := Open(…)                                        locked, checked, boot counted
//	if d.Fresh() {
//		id := from the flags, or from JoinExisting(…)
//		d.Init(id)                                  identity and parts
//		serve d.Handler(…) on the peer port
//		d.Introduce(…)                              the peers agree; recorded
//	}
//	start Raft, as founder or joiner unless d.Populated()
//	d.MarkPopulated()
//	go d.Announce(…)
//
// # Why a wiped directory is refused
//
// A member that lost its directory forgot which votes it gave and which entries it acknowledged. Under its old id it
// could help to elect a leader that lacks acknowledged writes. So:
//
//   - A directory from which a part is missing is refused by what is left of it (Open).
//   - A directory that is missing altogether looks like that of a new member, and only the peers know better. A new
//     directory is therefore not admitted to Raft before the peers were asked (Introduce): each remembers durably the
//     incarnation of every member it heard of, and refuses another one under the same id.
//
// The way back is always the same: remove the member, add it as a learner under a new id, start it with an empty
// directory, promote it.
//
// # What the introduction promises
//
// Before a new member takes part in Raft, a majority of the cluster (itself included) knows its incarnation durably.
// Every answer carries all incarnations the answering member knows, and a member that starts asks everybody, so that
// knowledge spreads at every start; what could not be delivered is delivered later (Announce). A peer refuses, too, a
// new directory for a member that has published its client URLs, whether or not it ever met that member.
//
// The window that remains: a wiped member is let in if, for the whole time it waits for the slower peers
// (Introduction.Grace), every peer that knows its earlier incarnation is unreachable, while enough peers answer that
// neither heard of it directly, nor from another member since, nor have applied the entry by which it published itself.
// Peers whose directories were wiped at the same time know nothing either. Reachable peers always count, however late
// within the grace time they answer; and until a majority answered, a new member waits without limit. A member whose
// flags name no other has nobody to ask: for it, an empty directory is a new cluster.
package datadir

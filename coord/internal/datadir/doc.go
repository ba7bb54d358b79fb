// Package datadir opens and guards the directory in which one member keeps its data, and introduces the member to its
// peers before it takes part in Raft.
//
// # Layout
//
//	<data-dir>/LOCK                 exclusive flock while a process runs; holds that process' id
//	<data-dir>/member/meta.json     {"crc32c": "…", "meta": {…}}, replaced atomically and durably
//	<data-dir>/member/wal/          Dragonboat's directory (or --wal-dir)      part "wal"
//	<data-dir>/member/db/SHARD/     a keyspace's state machine's store         part "db"
//	<data-dir>/member/ballast       space given back when the disk fills up
//
// Each part holds a file COORD-PART that names the directory's incarnation, a random number drawn when the directory
// was created. Whoever writes into a part must leave that file alone. The number itself is what the member proves
// itself by (package handshake); it stands in meta.json beside those of the members that were met, and nowhere else.
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
//	start Raft with d.PeerRecords(…), as founder or joiner unless d.Populated()
//	d.MarkPopulated()
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
// Who is introduced is told the fingerprints of all incarnations that the answering member knows, and so is every
// member at each connection for raft's sake: so knowledge spreads at every start, and who was down at the introduction
// meets the member when raft connects the two, before anything else passes. A peer refuses, too, a new directory for a
// member that has published its client URLs, whether or not it ever met that member.
//
// The window that remains: a wiped member is let in if, for the whole time it waits for the slower peers
// (Introduction.Grace), every peer that knows its earlier incarnation is unreachable, while enough peers answer that
// neither heard of it directly, nor from another member since, nor have applied the entry by which it published itself.
// Peers whose directories were wiped at the same time know nothing either. Reachable peers always count, however late
// within the grace time they answer; and until a majority answered, a new member waits without limit. A member whose
// flags name no other has nobody to ask: for it, an empty directory is a new cluster.
//
// # Whose refusal counts
//
// A new directory has nobody on record by whom to check an answer, and nothing to lose: one peer that knows the member
// by another directory, or as removed, refuses it for good. What answers for another cluster, or for another member
// than the flags say, is not a peer: a mistake in the flags of one member, or an address that belongs to somebody else
// by now, must not stop the founding of a cluster. The member waits, says so every few seconds, and starts once a
// majority is there.
//
// A directory that was admitted starts without asking anybody. From then on its member is refused in handshakes only,
// and a refusal counts if the peer proved cluster, member and the incarnation on record here; what answers at a reused
// address cannot. The member stops when a majority of the voters that it knows refuses it at the same time (package
// node): that many had to agree to its removal, and without them it could do nothing anyway.
//
// # Copies
//
// A copy of a directory has its incarnation, so it can prove all that the original can. Run beside the original it
// would vote a second time. A start is therefore named by the boot counter and a random number that is drawn at each
// start, in hellos and in log entries:
//
//   - Of two starts of one directory each peer keeps the one that is connected and answers a probe at that moment; the
//     other is told that it is a copy, and stops when a majority says so. A half-open connection does not answer, so
//     that a member whose machine was lost comes back after two election timeouts at most.
//   - A start of a lower boot is never let in after one of a higher boot.
//   - Entries of a start are not taken for those of another (package statemachine): the start seen first in the log
//     counts of two with the same boot, and a higher boot ends a lower one.
//
// What this cannot tell: a copy that comes while the original is down, or cut off from the peers that let the copy in,
// passes for the original that was started again. If it is older than what the original acknowledged, the cluster may
// lose writes. Peers remember starts for as long as their own processes run. Never start a copy of a member's
// directory; to rebuild a member, remove it and add it again.
package datadir

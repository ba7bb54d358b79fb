// Package logstore keeps Dragonboat's raft logs: entries, hard states, snapshot
// records and bootstrap records of all replicas of a process in one Pebble
// database. It takes the place of Dragonboat's own store through
// config.ExpertConfig.LogDBFactory.
//
// # Why
//
// Dragonboat's store syncs each change, also one that only advances the commit
// index. A leader of three members then syncs twice for a write: once for the
// entry, once for its commit index, and the next entry waits for the second. Here
// a change is synced if and only if raft must not forget it:
//
//   - new entries, because their acceptance is told to the leader, or counted by
//     it;
//   - a new term or vote, because a member must not vote twice in a term;
//   - a snapshot or a bootstrap record, because what they replace is deleted.
//
// This is the rule of etcd's raft library (MustSync). The commit index alone may
// be forgotten: it says which entries a majority has, and a majority still has
// them. It is written without a sync, and every later sync of the one write-ahead
// log makes it durable too. A member that lost its newest value restarts with an
// older one and learns it again from the leader, or becomes leader and finds it
// itself; until then it applies less than before.
//
// What is applied may therefore be ahead of the stored commit index after a
// crash. Dragonboat expects that of a state machine that keeps its own state: it
// replays the log behind the last snapshot as the commit index passes it, and
// hands the machine only what is above the index its Open returned. It never is
// ahead of the stored log, because entries are applied only when they are synced
// here. Two more things follow from the order of the write-ahead log:
//
//   - A snapshot is recorded after the commit index that covers it, or in the
//     short moment before: ReadRaftState raises the commit index to the snapshot.
//   - A configuration change is proposed only after the one before it was applied,
//     so the member that has the second in its log durably has a commit index that
//     covers the first. Losing a commit index sets membership back by one change
//     at most, and majorities of neighbours always overlap.
//
// # Layout
//
// Keys start with the replica; integers are big endian. One replica's rows are
// neighbours in the order in which they are listed:
//
//	shard (8) | replica (8) | 1             bootstrap record: raftpb.Bootstrap
//	shard (8) | replica (8) | 2             hard state: term (8) | vote (8) | commit (8)
//	shard (8) | replica (8) | 3             newest snapshot: raftpb.Snapshot
//	shard (8) | replica (8) | 4 | index (8) entry
//
// An entry is a row of its own, since most appends add one or few, and holds
//
//	term | type | key | client | series | responded-to | command
//
// where all but the command, which is the rest of the value, are unsigned
// varints. The index is in the key.
//
// The rows of a log are consecutive: an append below the end deletes what it
// does not overwrite, and a snapshot from the leader deletes all. The last row is
// the end of the log; nothing else says where it is.
//
// # Damage
//
// Files carry checksums, and each chunk of the write-ahead log also how far it was
// synced before. Create reads the log files and fails with ErrDamaged if a bad
// chunk is followed by one that says it had been good. Pebble alone would take such
// damage for a write that a crash tore and drop what follows. Damage of the last
// two or three writes cannot be told from that, nor can a log file that was cut
// short, and the end is cut off; the state machine may then be ahead of the log,
// which coord/internal/group refuses.
//
// Create also reads all tables. Damage that is found later makes every write fail
// from then on. Rows that do not decode or are missing from the middle of a log
// are ErrDamaged too.
//
// # Goroutines
//
// The package starts none; Pebble flushes and compacts in its own, which end
// with Close.
package logstore

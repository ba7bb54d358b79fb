// Package node runs one replica of one raft group: Dragonboat behind the small
// interface that coord needs (Raft), with the settings, work-arounds and policies
// that make it safe and quick for this server.
//
// What it adds to Dragonboat:
//
//   - Propose is fire and forget. A proposal forwarded to a leader can be lost
//     without notice, so its outcome is learned from the state machine alone and
//     the caller proposes the same bytes again until it sees them applied.
//   - ReadIndex coalesces its callers and asks again every 100 ms and at each
//     change of leader, because requests are lost the same way.
//   - TransferLeadership waits for the target, confirms, and retries.
//   - Snapshots and log compaction follow the progress of the other members, so
//     that catching up one of them takes one snapshot.
//   - A sole voter is made to stand for election at once, and so is the most
//     advanced follower when a majority sees that the leader's process has ended.
//   - What Dragonboat would answer with a panic or in silence is checked before:
//     a state machine behind its snapshot or ahead of its log, a directory that
//     belongs to another member, settings files in the working directory, flag
//     files that are damaged, a changed host name.
//
// Replica ids are member ids: a member has the same id in every shard.
//
// # Goroutines
//
// Every Node owns five: the read loop, the proposal reaper, the event loop, the
// compaction loop and the succession; one more waits for each ReadIndex under way. Dragonboat's callbacks only set flags for the event loop: it
// calls them while it holds locks.
package node

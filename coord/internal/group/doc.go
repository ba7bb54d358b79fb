// Package group is this member's part in one raft group: its replica of a shard, as Dragonboat runs it on the process'
// host (package host), behind the small interface that coord needs (Raft), with the work-arounds and policies that make
// it safe and quick.
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
//     a state machine behind its snapshot or ahead of its log.
//
// # Goroutines
//
// Every Group owns five: the read loop, the proposal reaper, the event loop, the
// compaction loop and the succession; one more waits for each ReadIndex under way. The host's
// calls only set flags for the event loop: they come while Dragonboat and the transport hold locks.
package group

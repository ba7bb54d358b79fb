// Package peer carries raft traffic between the members of one cluster over
// plain TCP (or TLS), and serves the peer port's HTTP requests on the same
// listener.
//
// It plugs into Dragonboat as its transport (raftio.ITransport) and as its
// node registry (raftio.INodeRegistry). Two things differ from Dragonboat's own:
//
//   - Addresses are not identities. Dragonboat stores a stable target string
//     per replica (Target); the Book says where that member listens today and
//     can be changed while the server runs.
//   - A peer that cannot be reached is not an error. A Link connects in the
//     background and drops messages while it is down, so that Dragonboat's
//     circuit breakers never trip and no vote is lost because a breaker was
//     open. Raft is told about the loss by an Unreachable message instead.
//
// # Wire format
//
// The first four bytes of a connection decide what it is: the magic below, or
// anything else, which is taken for HTTP.
//
//	magic    c0 'C' 'R' version(=2)
//	frame    kind u8 | length u32 | crc32c u32 | payload[length]
//
// Integers are little endian; the checksum (Castagnoli) covers kind, length and
// payload. Kinds: 3 raft message batch, 4 snapshot chunk, 5 end of snapshot,
// 6 end acknowledged, 7 ping, 8 pong. A ping carries a number, which the pong
// repeats.
//
// After the magic the two sides shake hands (package handshake): each proves who
// it is, and each may refuse the other. Both directions matter: a member that
// lost its data is refused when it dials and when it is dialled. Then the dialer
// sends raft batches or snapshot chunks and pings; the acceptor answers pings and
// the end of a snapshot, and otherwise only sends a ping of its own when it has to
// know whether the dialer's process still answers (starts).
//
// # What is judged before Dragonboat sees it
//
// Dragonboat trusts its peers and panics on much of what none of them sends, at
// each start again if it is in the log. So everything is judged on arrival:
//
//   - a batch is measured before it is decoded, and each message and entry judged
//     by itself: type, addresses, terms, indexes, the form of changes of membership
//     (validate.go). The command in an entry is judged by the server
//     (Content.CheckCommand): version and kind, and that a proposal is in its
//     sender's name;
//   - a message is judged by what came before: the term grows no faster than
//     elections make it, a term has one leader, nobody has more than was sent or is
//     in the log (history.go);
//   - a snapshot is read through as the state machine will read it before its last
//     chunk is passed on (intake.go).
//
// What is not right closes its connection, is counted by reason and logged; nothing
// of its batch is taken. The bytes of a peer's proposals that wait for raft are
// bounded, and what is beyond that is dropped and counted (proposals.go).
//
// It cannot tell a member that lies within these rules: one that acknowledges what
// it does not have, votes twice, or leads with entries that others did not agree
// on. Raft does not bear that, nor does this. Commands are judged by their kind;
// what they hold is for the state machine, which refuses on all members alike.
// Whether a change of membership is allowed is decided when the log comes to it.
package peer

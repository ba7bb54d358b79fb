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
package peer

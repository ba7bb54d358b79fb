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
//	magic    c0 'C' 'R' version(=1)
//	frame    kind u8 | length u32 | crc32c u32 | payload[length]
//
// Integers are little endian; the checksum (Castagnoli) covers kind, length and
// payload. Kinds: 1 hello, 2 verdict, 3 raft message batch, 4 snapshot chunk,
// 5 end of snapshot, 6 end acknowledged, 7 ping, 8 pong.
//
// A connection starts with a handshake in which each side shows who it is and
// each side may refuse the other:
//
//	dialer   → magic, hello{purpose, cluster, member, incarnation, wanted member}
//	acceptor → hello{...}, verdict{"" or the reason for a refusal}
//	dialer   → verdict{...}
//
// Both directions matter: a member that lost its data is refused when it dials
// and when it is dialled. After the handshake the dialer sends raft batches or
// snapshot chunks and pings; the acceptor answers pings and the end of a
// snapshot, and otherwise says nothing.
package peer

// Package handshake is how two members find out that each is who it says, before either lets the other do anything.
//
// Who a member is, is three things: the cluster, the member's id, and the incarnation, a random number of 256 bits that
// its data directory was created with. Ids are public; the incarnation is what tells the directory from every other
// one, and what the member proves itself by. Each member keeps the incarnations of the others on record (PeerRecords).
//
// # Messages
//
//	dialer   → hello    purpose, cluster, member, wanted member, boot, start, challenge, fingerprint, refusals;
//	                    fresh?, knows you?
//	acceptor → hello    the same
//	         → proof    own, pair
//	dialer   → proof    own, pair, number?
//	acceptor → verdict  kind, text, number?, whom it knows, refused commands?; tag
//	dialer   → verdict  kind, text; tag
//
// Each is kind u8 | length u16 | fields, a field is tag u8 | length u16 | value; a field that is not known is passed
// over. The transcript is the hash of both hellos as they were sent, so each proof covers everything in them: purposes,
// ids, starts, both challenges, and what later versions add.
//
//	own   HMAC-SHA256 over role and transcript, keyed by the sender's incarnation, cluster and member:
//	      "I am the directory that you have on record"
//	pair  the same, keyed by the incarnations of both: "and I know you as the one that you are"
//	tag   the same over a verdict, keyed as own: "and this is what I decided"
//
// Purposes, roles and the keys derived for them keep the uses apart; all comparisons take constant time. own and pair
// are two, because of the refusal of a member that is known by another incarnation: the peer proves who it is although
// the two do not agree on who the member is.
//
// refusals is a digest of the commands of the log that the operator made the sender refuse. Members that differ in it
// exchange nothing of the log: one would execute what the other does not. A new one takes the list over when it is
// introduced.
//
// # When a number is sent
//
// An incarnation that the receiver has on record is never sent. To a receiver that lacks it:
//
//	sender knows receiver   sealed: combined with a pad that only the holder of the receiver's incarnation can make,
//	                        good for this transcript alone. So whoever claims not to know somebody learns nothing
//	                        unless it is who it says
//	neither knows           in clear: the first meeting. The dialer shows it to who answers at the right address with
//	                        the right cluster and member, the acceptor after it has recorded the dialer
//
// Who listens to a first meeting, or takes part in one in a member's place, is not kept out here: that takes
// certificates. Third members are told the fingerprint only, by which they recognise the directory when they meet it. A
// new directory that asks whether it may start (Ask) shows nothing but its fingerprint.
//
// # Why this is safe
//
//   - A replayed hello, proof or verdict is of another transcript: each side drew a new challenge of 256 bits.
//   - Reflected to its maker a proof has the wrong role; sent to a third member, the wrong wanted member.
//   - Flags changed on the way ("I do not know you") change the transcript, and then no proof holds. A number is sent
//     in clear only by a side that does not know the other itself, whatever the other claims.
//   - A member that lost its directory has another fingerprint than the one on record or heard of, and is refused by
//     that. It cannot show the fingerprint of its former directory, for it cannot prove it.
//   - An answer from somewhere else, a reused address say, is of another cluster, of another member, or without proof.
//     It refuses nobody: RefusedError.Proven is true only of a verdict with the tag of who was on record here before.
//   - Who relays a whole handshake learns no number, but owns the connection afterwards: that, too, takes certificates.
package handshake

package handshake

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
)

const tagSize = sha256.Size

// mac is HMAC-SHA256 over a purpose and parts, each with its length before it.
func mac(key []byte, purpose string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(framed([]byte(purpose)))
	for _, p := range parts {
		h.Write(framed(p))
	}
	return h.Sum(nil)
}

func framed(p []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(p)), uint64(len(p))), p...)
}

func number(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// role is the side of a connection. It is part of everything that is proven, so that nothing can be sent back to who
// made it.
type role string

const (
	dialer   role = "dialer"
	acceptor role = "acceptor"
)

// ownKey is the key of who knows one incarnation. An incarnation is never a key of anything else.
func ownKey(cluster, member uint64, i Incarnation) []byte {
	return mac(i.n[:], "coord peer: own key", number(cluster), number(member))
}

// pairKey is the key of who knows the incarnations of both sides.
func (x *exchange) pairKey(dials, accepts Incarnation) []byte {
	d, a := x.members()
	both := append(append([]byte{}, dials.n[:]...), accepts.n[:]...)
	return mac(both, "coord peer: pair key", number(x.ours.Cluster), number(d), number(a))
}

// proveOwn is the proof of who knows the incarnation of the member in that role.
func (x *exchange) proveOwn(by role, member uint64, i Incarnation) []byte {
	return mac(ownKey(x.ours.Cluster, member, i), "coord peer: own", []byte(by), x.transcript)
}

// provePair is the proof of who knows both.
func (x *exchange) provePair(by role, mine, peers Incarnation) []byte {
	dials, accepts := mine, peers
	if by == acceptor {
		dials, accepts = peers, mine
	}
	return mac(x.pairKey(dials, accepts), "coord peer: pair", []byte(by), x.transcript)
}

// proveVerdict is the proof that a verdict is from who knows that incarnation.
func (x *exchange) proveVerdict(by role, member uint64, i Incarnation, body []byte) []byte {
	return mac(ownKey(x.ours.Cluster, member, i), "coord peer: verdict", []byte(by), x.transcript, body)
}

// seal hides a sender's number from who does not know the receiver's, and is its own inverse. The key is good for this
// one handshake, in which each side sends one number at most.
func (x *exchange) seal(by role, receiver uint64, receivers Incarnation, n []byte) []byte {
	pad := mac(ownKey(x.ours.Cluster, receiver, receivers), "coord peer: seal", []byte(by), x.transcript)
	out := make([]byte, len(pad))
	subtle.XORBytes(out, pad, n)
	return out
}

// transcribe is the hash of both hellos as they were sent, challenges and unknown fields included.
func transcribe(dialers, acceptors []byte) []byte {
	h := sha256.New()
	h.Write([]byte("coord peer: hellos\x00"))
	h.Write(framed(dialers))
	h.Write(framed(acceptors))
	return h.Sum(nil)
}

package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// purpose says what a connection is for.
type purpose uint8

const (
	purposeRaft purpose = iota + 1
	purposeSnapshot
)

// Identity is what a member shows to its peers.
type Identity struct {
	// Cluster is the id of the cluster the member belongs to.
	Cluster uint64
	// Member is the member's id, which is its replica id in every shard.
	Member uint64
	// Incarnation is the random number its data directory was created with. A
	// known member with another incarnation has lost its data.
	Incarnation uint64
}

// hello introduces one side of a connection to the other.
type hello struct {
	purpose purpose
	Identity
	// wanted is the member the sender believes it talks to.
	wanted uint64
}

const helloSize = 1 + 4*8

func (h hello) encode() []byte {
	b := append(make([]byte, 0, helloSize), byte(h.purpose))
	for _, v := range []uint64{h.Cluster, h.Member, h.Incarnation, h.wanted} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func decodeHello(b []byte) (hello, error) {
	if len(b) != helloSize {
		return hello{}, fmt.Errorf("%w: hello of %d bytes", ErrBadFrame, len(b))
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[1+8*i:]) }
	h := hello{purpose(b[0]), Identity{Cluster: u(0), Member: u(1), Incarnation: u(2)}, u(3)}
	if h.purpose != purposeRaft && h.purpose != purposeSnapshot {
		return hello{}, fmt.Errorf("%w: unknown purpose %d", ErrBadFrame, h.purpose)
	}
	return h, nil
}

// RefusedError is a refusal by one side of a connection.
type RefusedError struct {
	// Local is true when this member refused the peer.
	Local bool
	// Peer is the member on the other side as far as it is known.
	Peer uint64
	// Reason is what the refusing side said.
	Reason string
}

func (e *RefusedError) Error() string {
	if e.Local {
		return fmt.Sprintf("refused member %x: %s", e.Peer, e.Reason)
	}
	return fmt.Sprintf("refused by member %x: %s", e.Peer, e.Reason)
}

// maxReason bounds the text of a refusal on the wire, in bytes.
const maxReason = 1 << 10

func encodeVerdict(err error) []byte {
	if err == nil {
		return nil
	}
	s := err.Error()
	if s == "" {
		s = "refused"
	}
	return []byte(s[:min(len(s), maxReason)])
}

// judge decides whether the peer that said theirs may talk to the member that
// said ours, and returns why not.
func judge(ours, theirs hello, admit func(cluster, member, incarnation uint64) error) error {
	switch {
	case theirs.Cluster != ours.Cluster:
		return fmt.Errorf("cluster id mismatch: member %x belongs to cluster %x, member %x to cluster %x",
			theirs.Member, theirs.Cluster, ours.Member, ours.Cluster)
	case theirs.Member == ours.Member:
		return fmt.Errorf("member id %x is used by both sides of the connection", ours.Member)
	case ours.wanted != 0 && theirs.Member != ours.wanted:
		return fmt.Errorf("address of member %x answered as member %x", ours.wanted, theirs.Member)
	case theirs.wanted != 0 && theirs.wanted != ours.Member:
		return fmt.Errorf("wanted member %x, this is member %x", theirs.wanted, ours.Member)
	case admit != nil:
		return admit(theirs.Cluster, theirs.Member, theirs.Incarnation)
	}
	return nil
}

// expect reads one handshake frame of kind k.
func expect(r io.Reader, k kind) ([]byte, error) {
	got, b, err := readFrame(r, nil, maxHandshake)
	if err != nil {
		return nil, err
	}
	if got != k {
		return nil, fmt.Errorf("%w: kind %d in handshake, want %d", ErrBadFrame, got, k)
	}
	return b, nil
}

func readHello(r io.Reader) (hello, error) {
	b, err := expect(r, kindHello)
	if err != nil {
		return hello{}, err
	}
	return decodeHello(b)
}

func readVerdict(r io.Reader, from uint64) error {
	b, err := expect(r, kindVerdict)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("%w: verdict is not text", ErrBadFrame)
	}
	return &RefusedError{Peer: from, Reason: string(b)}
}

type admitFunc func(cluster, member, incarnation uint64) error

// shakeDialer runs the dialer's half of the handshake.
func shakeDialer(rw io.ReadWriter, ours hello, admit admitFunc) error {
	first := append(magic[:4:4], appendFrame(nil, kindHello, ours.encode())...)
	if _, err := rw.Write(first); err != nil {
		return err
	}
	theirs, err := readHello(rw)
	if err != nil {
		return err
	}
	theirVerdict := readVerdict(rw, theirs.Member)
	var refused *RefusedError
	if theirVerdict != nil && !errors.As(theirVerdict, &refused) {
		return theirVerdict
	}
	return settle(rw, theirs, judge(ours, theirs, admit), theirVerdict, nil)
}

// shakeAcceptor runs the acceptor's half, after the magic was read.
func shakeAcceptor(rw io.ReadWriter, self Identity, admit admitFunc) (hello, error) {
	theirs, err := readHello(rw)
	if err != nil {
		return hello{}, err
	}
	ours := hello{theirs.purpose, self, 0}
	verdict := judge(ours, theirs, admit)
	if err := settle(rw, theirs, verdict, nil, appendFrame(nil, kindHello, ours.encode())); err != nil {
		return theirs, err
	}
	return theirs, readVerdict(rw, theirs.Member)
}

// settle sends our verdict after prefix. A refusal by either side ends the
// connection; ours is reported first because it explains theirs.
func settle(w io.Writer, theirs hello, ourVerdict, theirVerdict error, prefix []byte) error {
	_, err := w.Write(appendFrame(prefix, kindVerdict, encodeVerdict(ourVerdict)))
	switch {
	case ourVerdict != nil:
		return &RefusedError{Local: true, Peer: theirs.Member, Reason: ourVerdict.Error()}
	case theirVerdict != nil:
		return theirVerdict
	}
	return err
}

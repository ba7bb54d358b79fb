package handshake

import (
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// Identity is what a member shows to its peers, and proves.
type Identity struct {
	// Cluster is the id of the cluster the member belongs to.
	Cluster uint64
	// Member is the member's id, which is its replica id in every shard.
	Member uint64
	// Incarnation is the random number its data directory was created with. A known member with another one has lost
	// its data.
	Incarnation Incarnation
	// Boot counts the starts of processes on the directory, Start was drawn at this one: a copy of the directory may
	// have the same count, but not the same start.
	Boot, Start uint64
	// Fresh: the member has never taken part in Raft from its directory.
	Fresh bool
}

// PeerRecords is who has the incarnations of the peers on record. Its methods are safe for concurrent use and must not
// block for longer than a write to disk.
type PeerRecords interface {
	// Known returns the incarnation of a member that was met.
	Known(member uint64) (Incarnation, bool)
	// Judge refuses a peer of the same cluster by what it says of itself, proven or not. It writes nothing.
	Judge(Hello) error
	// Record remembers durably the incarnation of a member that is met for the first time.
	Record(member uint64, i Incarnation) error
	// Heard returns the fingerprints of all members that were met or heard of, this one excepted.
	Heard() map[uint64]Fingerprint
	// Learn takes over what another member knows. What is known already stays.
	Learn(map[uint64]Fingerprint) error
	// Refusals names the commands of the log that the operator has refused, in order. Two members with other ones would
	// come to other states from one log: they exchange nothing of it.
	Refusals() []string
	// TakeOver adds to them, durably, those of the member by which this one, being new, is introduced.
	TakeOver(refusals []string) error
	// Version is the cluster's version as far as this member has applied the log, 0 before it has.
	Version() raftv1.Version
	// History is the identity of the history that this member has applied, 0 before it has. Members of two histories
	// exchange nothing: an entry of one means nothing in the other.
	History() uint64
}

// Party is this side of a handshake.
type Party struct {
	Self        Identity
	PeerRecords PeerRecords
	// Contend decides between a peer's start and another one of the same directory. It may wait. Nil admits every
	// start.
	Contend func(Hello) error
}

func (p *Party) contend(h Hello) error {
	if p.Contend == nil {
		return nil
	}
	return p.Contend(h)
}

// exchange is one handshake under way.
type exchange struct {
	Party
	rw           io.ReadWriter
	role         role
	ours, theirs Hello
	transcript   []byte
	proof        proof // theirs
	// known is the peer's incarnation, from the record if met, else from this handshake once it was shown.
	known Incarnation
	met   bool
}

func (p Party) newExchange(rw io.ReadWriter, r role, purpose Purpose, wanted uint64) (*exchange, error) {
	x := &exchange{Party: p, rw: rw, role: r}
	x.known, x.met = p.PeerRecords.Known(wanted)
	x.ours = Hello{
		Purpose: purpose, Cluster: p.Self.Cluster, Member: p.Self.Member, Wanted: wanted, Boot: p.Self.Boot,
		Start: p.Self.Start,
		Fresh: p.Self.Fresh, Knows: x.met, Fingerprint: p.Self.Incarnation.Fingerprint(),
		Refusals:   DigestRefusals(p.PeerRecords.Refusals()),
		MinVersion: uint64(raftv1.MinVersion), MaxVersion: uint64(raftv1.MaxVersion),
		Version: uint64(p.PeerRecords.Version()), History: p.PeerRecords.History(),
	}
	_, err := rand.Read(x.ours.challenge[:])
	return x, err
}

// members returns the dialer's id and the acceptor's.
func (x *exchange) members() (d, a uint64) {
	if x.role == dialer {
		return x.ours.Member, x.theirs.Member
	}
	return x.theirs.Member, x.ours.Member
}

func (x *exchange) peerRole() role {
	if x.role == dialer {
		return acceptor
	}
	return dialer
}

// Dial runs the dialer's half of the handshake with the member that is wanted. A *RefusedError says that one side
// refused.
func Dial(rw io.ReadWriter, p Party, purpose Purpose, wanted uint64) (Hello, error) {
	x, err := p.newExchange(rw, dialer, purpose, wanted)
	if err != nil {
		return Hello{}, err
	}
	return x.dial()
}

func (x *exchange) dial() (Hello, error) {
	sent := x.ours.encode()
	if err := writeMessage(x.rw, kindHello, sent); err != nil {
		return Hello{}, err
	}
	got, err := x.readHello()
	if err != nil {
		return x.theirs, err
	}
	x.transcript = transcribe(sent, got)
	if err := x.readProof(); err != nil {
		return x.theirs, err
	}
	refusal := x.judge()
	if err := x.writeProof(refusal == nil); err != nil {
		return x.theirs, err
	}
	told, tagged, err := x.readVerdict()
	if err != nil {
		return x.theirs, err
	}
	if refusal == nil && told.reason.Kind == Admitted {
		if refusal = x.settle(told.number); refusal == nil && !x.tagged(tagged) {
			refusal = Refuse(Unproven, "the verdict of member %x is not its own", x.theirs.Member)
		}
		if refusal == nil {
			refusal = x.admit()
		}
	}
	err = x.writeVerdict(verdict{reason: reasonOf(refusal)})
	if err := x.outcome(refusal, told, tagged); err != nil {
		return x.theirs, err
	}
	if err != nil {
		return x.theirs, err
	}
	return x.theirs, x.learn(told)
}

// Accept runs the acceptor's half, for the purposes that it serves.
func Accept(rw io.ReadWriter, p Party, purposes ...Purpose) (Hello, error) {
	got, err := readMessage(rw, kindHello)
	if err != nil {
		return Hello{}, err
	}
	theirs, err := decodeHello(got)
	if err != nil {
		return theirs, err
	}
	if !serves(purposes, theirs.Purpose) {
		return theirs, fmt.Errorf("%w: purpose %d is not served here", ErrBadMessage, theirs.Purpose)
	}
	x, err := p.newExchange(rw, acceptor, theirs.Purpose, theirs.Member)
	if err != nil {
		return theirs, err
	}
	x.theirs = theirs
	sent := x.ours.encode()
	x.transcript = transcribe(got, sent)
	if err := writeMessage(rw, kindHello, sent); err != nil {
		return theirs, err
	}
	if err := x.writeProof(false); err != nil {
		return theirs, err
	}
	if err := x.readProof(); err != nil {
		return theirs, err
	}
	refusal := x.judge()
	if refusal == nil {
		refusal = x.settle(x.proof.number)
	}
	if refusal == nil {
		refusal = x.admit()
	}
	if err := x.writeVerdict(x.answer(refusal)); err != nil {
		return theirs, err
	}
	told, tagged, err := x.readVerdict()
	if err != nil && refusal == nil {
		return theirs, err
	}
	if refusal == nil && told.reason.Kind == Admitted && !x.tagged(tagged) {
		return theirs, fmt.Errorf("%w: the verdict of member %x is not its own", ErrBadMessage, theirs.Member)
	}
	return theirs, x.outcome(refusal, told, tagged)
}

// tagged says whether a verdict is that of the peer, as far as its number is known: Ask shows none.
func (x *exchange) tagged(by func(Incarnation) bool) bool { return by(x.known) || !x.met && !x.shows() }

func serves(purposes []Purpose, p Purpose) bool {
	for _, each := range purposes {
		if each == p {
			return true
		}
	}
	return false
}

func (x *exchange) readHello() ([]byte, error) {
	b, err := readMessage(x.rw, kindHello)
	if err == nil {
		x.theirs, err = decodeHello(b)
	}
	return b, err
}

func (x *exchange) readProof() error {
	b, err := readMessage(x.rw, kindProof)
	if err == nil {
		x.proof, err = decodeProof(b)
	}
	return err
}

// writeProof proves what this side knows. show: the peer may be shown this side's number if it does not know it; the
// acceptor does that with its verdict, when the dialer has been proven.
func (x *exchange) writeProof(show bool) error {
	p := proof{own: x.proveOwn(x.role, x.Self.Member, x.Self.Incarnation)}
	if x.met {
		p.pair = x.provePair(x.role, x.Self.Incarnation, x.known)
	}
	if show {
		p.number = x.number()
	}
	return writeMessage(x.rw, kindProof, p.encode())
}

// shows says whether this kind of connection makes the sides known to each other.
func (x *exchange) shows() bool { return x.ours.Purpose != Ask }

// number is this side's incarnation for a peer that has it not on record, nil for others. It goes in clear only between
// two that both have never met: to a peer that is on record here it is sealed, so that none but that peer can read it.
func (x *exchange) number() []byte {
	switch {
	case !x.shows() || x.theirs.Knows:
		return nil
	case x.met:
		return x.seal(x.role, x.theirs.Member, x.known, x.Self.Incarnation.n[:])
	}
	return x.Self.Incarnation.n[:]
}

// judge decides by what the peer says of itself, and by its proof if it is known.
func (x *exchange) judge() error {
	ours, theirs := &x.ours, &x.theirs
	switch {
	case theirs.Cluster != ours.Cluster:
		return Refuse(OtherCluster, "this is a member of cluster %x, not of cluster %x: compare --initial-cluster and "+
			"--initial-cluster-token of the members", ours.Cluster, theirs.Cluster)
	case theirs.Member == ours.Member:
		return Refuse(Refused, "this is member %x itself: two members must not share a peer URL", ours.Member)
	case x.role == dialer && theirs.Member != ours.Wanted:
		return Refuse(OtherCluster, "this is the address of member %x, and member %x answered", ours.Wanted,
			theirs.Member)
	case theirs.Wanted != ours.Member:
		return Refuse(OtherCluster, "this is member %x, not member %x", ours.Member, theirs.Wanted)
	}
	if err := checkVersions(ours, theirs); err != nil {
		return err
	}
	if err := checkHistory(ours, theirs); err != nil {
		return err
	}
	if err := x.PeerRecords.Judge(*theirs); err != nil {
		return err
	}
	if x.exchangesLog() && theirs.Refusals != ours.Refusals {
		return x.otherRefusals()
	}
	if x.met && !x.provenOwn(x.known) {
		return x.unproven()
	}
	return nil
}

// checkVersions refuses a peer whose release does not know the version that the cluster is at, or one from a cluster
// whose version this release does not know.
func checkVersions(ours, theirs *Hello) error {
	v := max(ours.Version, theirs.Version)
	for _, h := range []*Hello{theirs, ours} {
		if v != 0 && (v < h.MinVersion || v > h.MaxVersion) {
			return Refuse(OtherVersion, "the cluster is at version %d, and the release that member %x runs knows "+
				"versions %d to %d: start it with a release that knows it",
				v, h.Member, h.MinVersion, h.MaxVersion)
		}
	}
	return nil
}

// checkHistory refuses a peer of another history.
func checkHistory(ours, theirs *Hello) error {
	if ours.History == 0 || theirs.History == 0 || ours.History == theirs.History {
		return nil
	}
	return Refuse(OtherHistory, "member %x has the history %x and member %x the history %x: one of them was restored, "+
		"or founded anew; decide whose keys are to live, "+
		"stop the other, and start it again with an empty data directory", ours.Member, ours.History, theirs.Member,
		theirs.History)
}

// exchangesLog says whether entries, or what came of them, pass over this kind of connection.
func (x *exchange) exchangesLog() bool { return x.ours.Purpose == Raft || x.ours.Purpose == Snapshot }

// otherRefusals is the refusal of a peer that would apply other commands of the log than this member.
func (x *exchange) otherRefusals() error {
	return Refuse(OtherRefusals, "member %x was made to refuse other commands of the log than member %x: stop the one "+
		"that lacks some, and run \"coordd refuse-command "+
		"--data-dir DIR --entry COMMAND\" there for each, with --not-in-log-yet if its log ends before; compare with "+
		"member %x, which refuses %s",
		// the list at last: it may be cut
		x.theirs.Member, x.ours.Member, x.ours.Member, listed(x.PeerRecords.Refusals()))
}

func listed(refusals []string) string {
	if len(refusals) == 0 {
		return "none"
	}
	return strings.Join(refusals, ", ")
}

func (x *exchange) unproven() error {
	return Refuse(Unproven, "member %x did not prove its incarnation %s, which is on record here", x.theirs.Member,
		x.theirs.Fingerprint)
}

func (x *exchange) provenOwn(i Incarnation) bool {
	return hmac.Equal(x.proof.own, x.proveOwn(x.peerRole(), x.theirs.Member, i))
}

// settle finds out the incarnation of a peer that judge had nothing against, and refuses it unless all its proofs hold.
func (x *exchange) settle(shown []byte) error {
	if !x.met && x.shows() {
		if len(shown) != len(x.known.n) {
			return Refuse(Unproven, "member %x did not show its incarnation and is not known here", x.theirs.Member)
		}
		if x.theirs.Knows {
			shown = x.seal(x.peerRole(), x.ours.Member, x.Self.Incarnation, shown)
		}
		copy(x.known.n[:], shown)
		if x.known.Fingerprint() != x.theirs.Fingerprint || !x.provenOwn(x.known) {
			return x.unproven()
		}
	}
	if x.theirs.Knows && (x.met || x.shows()) &&
		!hmac.Equal(x.proof.pair, x.provePair(x.peerRole(), x.known, x.Self.Incarnation)) {
		return Refuse(Unproven, "member %x did not prove that it knows the incarnation of member %x", x.theirs.Member,
			x.ours.Member)
	}
	return nil
}

// admit takes a proven peer in: durably if it is new, and unless another start of its directory is there.
func (x *exchange) admit() error {
	if !x.shows() {
		return nil
	}
	if !x.met {
		if err := x.PeerRecords.Record(x.theirs.Member, x.known); err != nil {
			return err
		}
	}
	return x.contend(x.theirs)
}

// answer is the acceptor's verdict, with which it shows its number to a dialer that was admitted.
func (x *exchange) answer(refusal error) verdict {
	v := verdict{reason: reasonOf(refusal)}
	if refusal != nil {
		return v
	}
	v.number = x.number()
	if x.shows() {
		v.heard = x.PeerRecords.Heard()
		delete(v.heard, x.theirs.Member)
	}
	if x.theirs.Fresh {
		v.refusals = x.PeerRecords.Refusals()
	}
	return v
}

func (x *exchange) writeVerdict(v verdict) error {
	body := v.body()
	tag := x.proveVerdict(x.role, x.Self.Member, x.Self.Incarnation, body)
	return writeMessage(x.rw, kindVerdict, append(body, tag...))
}

// readVerdict returns a verdict, and a function that says whether it was made by who knows an incarnation.
func (x *exchange) readVerdict() (verdict, func(Incarnation) bool, error) {
	b, err := readMessage(x.rw, kindVerdict)
	if err != nil {
		return verdict{}, nil, err
	}
	v, body, err := decodeVerdict(b)
	return v, func(i Incarnation) bool {
		return hmac.Equal(v.tag, x.proveVerdict(x.peerRole(), x.theirs.Member, i, body))
	}, err
}

// outcome is the error of a refusal by either side; ours is reported first because it explains theirs.
func (x *exchange) outcome(refusal error, told verdict, tagged func(Incarnation) bool) error {
	switch {
	case refusal != nil:
		r := reasonOf(refusal)
		if r.Kind == OtherRefusals && told.reason.Kind == OtherRefusals { // only the peer can name its own
			r.Text += "; it says: " + told.reason.Text
		}
		return &RefusedError{Local: true, Peer: x.theirs.Member, Kind: r.Kind, Reason: r.Text}
	case told.reason.Kind != Admitted:
		return &RefusedError{
			Proven: x.met && x.theirs.Cluster == x.ours.Cluster && x.theirs.Member == x.ours.Wanted &&
				x.provenOwn(x.known) && tagged(x.known),
			Peer: x.theirs.Member, Kind: told.reason.Kind, Reason: told.reason.Text,
		}
	}
	return nil
}

// learn takes over whom an acceptor knows that was proven, or by which this member, being new, is introduced.
func (x *exchange) learn(told verdict) error {
	if x.ours.Fresh && len(told.refusals) > 0 {
		if err := x.PeerRecords.TakeOver(told.refusals); err != nil {
			return fmt.Errorf("take over the commands that member %x refuses: %w", x.theirs.Member, err)
		}
	}
	if len(told.heard) == 0 || !x.met && !x.ours.Fresh {
		return nil
	}
	delete(told.heard, x.ours.Member)
	if err := x.PeerRecords.Learn(told.heard); err != nil {
		return errors.Join(fmt.Errorf("record whom member %x knows", x.theirs.Member), err)
	}
	return nil
}

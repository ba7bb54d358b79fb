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
	// Incarnation is the random number its data directory was created with. A known member with another one has lost its data.
	Incarnation Incarnation
	// Boot counts the starts of processes on the directory, Start was drawn at this one: a copy of the directory may have
	// the same count, but not the same start.
	Boot, Start uint64
	// Fresh: the member has never taken part in Raft from its directory.
	Fresh bool
}

// Keeper is who has the incarnations of the peers on record. Its methods are safe for concurrent use and must not block
// for longer than a write to disk.
type Keeper interface {
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
	// Refusals names the commands of the log that the operator has refused, in order. Two members with other ones would come to
	// other states from one log: they exchange nothing of it.
	Refusals() []string
	// TakeOver adds to them, durably, those of the member by which this one, being new, is introduced.
	TakeOver(refusals []string) error
	// Version is the cluster's version as far as this member has applied the log, 0 before it has.
	Version() raftv1.Version
	// History is the identity of the history that this member has applied, 0 before it has. Members of two histories exchange nothing:
	// an entry of one means nothing in the other.
	History() uint64
}

// Party is this side of a handshake.
type Party struct {
	Self   Identity
	Keeper Keeper
	// Contend decides between a peer's start and another one of the same directory. It may wait. Nil admits every start.
	Contend func(Hello) error
}

func (p *Party) contend(h Hello) error {
	if p.Contend == nil {
		return nil
	}
	return p.Contend(h)
}

// session is one handshake under way.
type session struct {
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

func (p Party) newSession(rw io.ReadWriter, r role, purpose Purpose, wanted uint64) (*session, error) {
	s := &session{Party: p, rw: rw, role: r}
	s.known, s.met = p.Keeper.Known(wanted)
	s.ours = Hello{
		Purpose: purpose, Cluster: p.Self.Cluster, Member: p.Self.Member, Wanted: wanted, Boot: p.Self.Boot, Start: p.Self.Start,
		Fresh: p.Self.Fresh, Knows: s.met, Fingerprint: p.Self.Incarnation.Fingerprint(),
		Refusals:   DigestRefusals(p.Keeper.Refusals()),
		MinVersion: uint64(raftv1.MinVersion), MaxVersion: uint64(raftv1.MaxVersion), Version: uint64(p.Keeper.Version()), History: p.Keeper.History(),
	}
	_, err := rand.Read(s.ours.challenge[:])
	return s, err
}

// members returns the dialer's id and the acceptor's.
func (s *session) members() (d, a uint64) {
	if s.role == dialer {
		return s.ours.Member, s.theirs.Member
	}
	return s.theirs.Member, s.ours.Member
}

func (s *session) peerRole() role {
	if s.role == dialer {
		return acceptor
	}
	return dialer
}

// Dial runs the dialer's half of the handshake with the member that is wanted. A *RefusedError says that one side refused.
func Dial(rw io.ReadWriter, p Party, purpose Purpose, wanted uint64) (Hello, error) {
	s, err := p.newSession(rw, dialer, purpose, wanted)
	if err != nil {
		return Hello{}, err
	}
	return s.dial()
}

func (s *session) dial() (Hello, error) {
	sent := s.ours.encode()
	if err := writeMessage(s.rw, kindHello, sent); err != nil {
		return Hello{}, err
	}
	got, err := s.readHello()
	if err != nil {
		return s.theirs, err
	}
	s.transcript = transcribe(sent, got)
	if err := s.readProof(); err != nil {
		return s.theirs, err
	}
	refusal := s.judge()
	if err := s.writeProof(refusal == nil); err != nil {
		return s.theirs, err
	}
	told, tagged, err := s.readVerdict()
	if err != nil {
		return s.theirs, err
	}
	if refusal == nil && told.reason.Kind == Admitted {
		if refusal = s.settle(told.number); refusal == nil && !s.tagged(tagged) {
			refusal = Refuse(Unproven, "the verdict of member %x is not its own", s.theirs.Member)
		}
		if refusal == nil {
			refusal = s.admit()
		}
	}
	err = s.writeVerdict(verdict{reason: reasonOf(refusal)})
	if err := s.outcome(refusal, told, tagged); err != nil {
		return s.theirs, err
	}
	if err != nil {
		return s.theirs, err
	}
	return s.theirs, s.learn(told)
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
	s, err := p.newSession(rw, acceptor, theirs.Purpose, theirs.Member)
	if err != nil {
		return theirs, err
	}
	s.theirs = theirs
	sent := s.ours.encode()
	s.transcript = transcribe(got, sent)
	if err := writeMessage(rw, kindHello, sent); err != nil {
		return theirs, err
	}
	if err := s.writeProof(false); err != nil {
		return theirs, err
	}
	if err := s.readProof(); err != nil {
		return theirs, err
	}
	refusal := s.judge()
	if refusal == nil {
		refusal = s.settle(s.proof.number)
	}
	if refusal == nil {
		refusal = s.admit()
	}
	if err := s.writeVerdict(s.answer(refusal)); err != nil {
		return theirs, err
	}
	told, tagged, err := s.readVerdict()
	if err != nil && refusal == nil {
		return theirs, err
	}
	if refusal == nil && told.reason.Kind == Admitted && !s.tagged(tagged) {
		return theirs, fmt.Errorf("%w: the verdict of member %x is not its own", ErrBadMessage, theirs.Member)
	}
	return theirs, s.outcome(refusal, told, tagged)
}

// tagged says whether a verdict is that of the peer, as far as its number is known: Ask shows none.
func (s *session) tagged(by func(Incarnation) bool) bool { return by(s.known) || !s.met && !s.shows() }

func serves(purposes []Purpose, p Purpose) bool {
	for _, each := range purposes {
		if each == p {
			return true
		}
	}
	return false
}

func (s *session) readHello() ([]byte, error) {
	b, err := readMessage(s.rw, kindHello)
	if err == nil {
		s.theirs, err = decodeHello(b)
	}
	return b, err
}

func (s *session) readProof() error {
	b, err := readMessage(s.rw, kindProof)
	if err == nil {
		s.proof, err = decodeProof(b)
	}
	return err
}

// writeProof proves what this side knows. show: the peer may be shown this side's number if it does not know it; the
// acceptor does that with its verdict, when the dialer has been proven.
func (s *session) writeProof(show bool) error {
	p := proof{own: s.proveOwn(s.role, s.Self.Member, s.Self.Incarnation)}
	if s.met {
		p.pair = s.provePair(s.role, s.Self.Incarnation, s.known)
	}
	if show {
		p.number = s.number()
	}
	return writeMessage(s.rw, kindProof, p.encode())
}

// shows says whether this kind of connection makes the sides known to each other.
func (s *session) shows() bool { return s.ours.Purpose != Ask }

// number is this side's incarnation for a peer that has it not on record, nil for others. It goes in clear only between two
// that both have never met: to a peer that is on record here it is sealed, so that none but that peer can read it.
func (s *session) number() []byte {
	switch {
	case !s.shows() || s.theirs.Knows:
		return nil
	case s.met:
		return s.seal(s.role, s.theirs.Member, s.known, s.Self.Incarnation.n[:])
	}
	return s.Self.Incarnation.n[:]
}

// judge decides by what the peer says of itself, and by its proof if it is known.
func (s *session) judge() error {
	ours, theirs := &s.ours, &s.theirs
	switch {
	case theirs.Cluster != ours.Cluster:
		return Refuse(OtherCluster, "this is a member of cluster %x, not of cluster %x: compare --initial-cluster and --initial-cluster-token of the members", ours.Cluster, theirs.Cluster)
	case theirs.Member == ours.Member:
		return Refuse(Refused, "this is member %x itself: two members must not share a peer URL", ours.Member)
	case s.role == dialer && theirs.Member != ours.Wanted:
		return Refuse(OtherCluster, "this is the address of member %x, and member %x answered", ours.Wanted, theirs.Member)
	case theirs.Wanted != ours.Member:
		return Refuse(OtherCluster, "this is member %x, not member %x", ours.Member, theirs.Wanted)
	}
	if err := checkVersions(ours, theirs); err != nil {
		return err
	}
	if err := checkHistory(ours, theirs); err != nil {
		return err
	}
	if err := s.Keeper.Judge(*theirs); err != nil {
		return err
	}
	if s.exchangesLog() && theirs.Refusals != ours.Refusals {
		return s.otherRefusals()
	}
	if s.met && !s.provenOwn(s.known) {
		return s.unproven()
	}
	return nil
}

// checkVersions refuses a peer whose release does not know the version that the cluster is at, or one from a cluster whose version
// this release does not know.
func checkVersions(ours, theirs *Hello) error {
	v := max(ours.Version, theirs.Version)
	for _, h := range []*Hello{theirs, ours} {
		if v != 0 && (v < h.MinVersion || v > h.MaxVersion) {
			return Refuse(OtherVersion, "the cluster is at version %d, and the release that member %x runs knows versions %d to %d: start it with a release that knows it",
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
	return Refuse(OtherHistory, "member %x has the history %x and member %x the history %x: one of them was restored, or founded anew; decide whose keys are to live, "+
		"stop the other, and start it again with an empty data directory", ours.Member, ours.History, theirs.Member, theirs.History)
}

// exchangesLog says whether entries, or what came of them, pass over this kind of connection.
func (s *session) exchangesLog() bool { return s.ours.Purpose == Raft || s.ours.Purpose == Snapshot }

// otherRefusals is the refusal of a peer that would apply other commands of the log than this member.
func (s *session) otherRefusals() error {
	return Refuse(OtherRefusals, "member %x was made to refuse other commands of the log than member %x: stop the one that lacks some, and run \"coordd refuse-command "+
		"--data-dir DIR --entry COMMAND\" there for each, with --not-in-log-yet if its log ends before; compare with member %x, which refuses %s",
		s.theirs.Member, s.ours.Member, s.ours.Member, listed(s.Keeper.Refusals())) // the list at last: it may be cut
}

func listed(refusals []string) string {
	if len(refusals) == 0 {
		return "none"
	}
	return strings.Join(refusals, ", ")
}

func (s *session) unproven() error {
	return Refuse(Unproven, "member %x did not prove its incarnation %s, which is on record here", s.theirs.Member, s.theirs.Fingerprint)
}

func (s *session) provenOwn(i Incarnation) bool {
	return hmac.Equal(s.proof.own, s.proveOwn(s.peerRole(), s.theirs.Member, i))
}

// settle finds out the incarnation of a peer that judge had nothing against, and refuses it unless all its proofs hold.
func (s *session) settle(shown []byte) error {
	if !s.met && s.shows() {
		if len(shown) != len(s.known.n) {
			return Refuse(Unproven, "member %x did not show its incarnation and is not known here", s.theirs.Member)
		}
		if s.theirs.Knows {
			shown = s.seal(s.peerRole(), s.ours.Member, s.Self.Incarnation, shown)
		}
		copy(s.known.n[:], shown)
		if s.known.Fingerprint() != s.theirs.Fingerprint || !s.provenOwn(s.known) {
			return s.unproven()
		}
	}
	if s.theirs.Knows && (s.met || s.shows()) && !hmac.Equal(s.proof.pair, s.provePair(s.peerRole(), s.known, s.Self.Incarnation)) {
		return Refuse(Unproven, "member %x did not prove that it knows the incarnation of member %x", s.theirs.Member, s.ours.Member)
	}
	return nil
}

// admit takes a proven peer in: durably if it is new, and unless another start of its directory is there.
func (s *session) admit() error {
	if !s.shows() {
		return nil
	}
	if !s.met {
		if err := s.Keeper.Record(s.theirs.Member, s.known); err != nil {
			return err
		}
	}
	return s.contend(s.theirs)
}

// answer is the acceptor's verdict, with which it shows its number to a dialer that was admitted.
func (s *session) answer(refusal error) verdict {
	v := verdict{reason: reasonOf(refusal)}
	if refusal != nil {
		return v
	}
	v.number = s.number()
	if s.shows() {
		v.heard = s.Keeper.Heard()
		delete(v.heard, s.theirs.Member)
	}
	if s.theirs.Fresh {
		v.refusals = s.Keeper.Refusals()
	}
	return v
}

func (s *session) writeVerdict(v verdict) error {
	body := v.body()
	tag := s.proveVerdict(s.role, s.Self.Member, s.Self.Incarnation, body)
	return writeMessage(s.rw, kindVerdict, append(body, tag...))
}

// readVerdict returns a verdict, and a function that says whether it was made by who knows an incarnation.
func (s *session) readVerdict() (verdict, func(Incarnation) bool, error) {
	b, err := readMessage(s.rw, kindVerdict)
	if err != nil {
		return verdict{}, nil, err
	}
	v, body, err := decodeVerdict(b)
	return v, func(i Incarnation) bool {
		return hmac.Equal(v.tag, s.proveVerdict(s.peerRole(), s.theirs.Member, i, body))
	}, err
}

// outcome is the error of a refusal by either side; ours is reported first because it explains theirs.
func (s *session) outcome(refusal error, told verdict, tagged func(Incarnation) bool) error {
	switch {
	case refusal != nil:
		r := reasonOf(refusal)
		if r.Kind == OtherRefusals && told.reason.Kind == OtherRefusals { // only the peer can name its own
			r.Text += "; it says: " + told.reason.Text
		}
		return &RefusedError{Local: true, Peer: s.theirs.Member, Kind: r.Kind, Reason: r.Text}
	case told.reason.Kind != Admitted:
		return &RefusedError{
			Proven: s.met && s.theirs.Cluster == s.ours.Cluster && s.theirs.Member == s.ours.Wanted && s.provenOwn(s.known) && tagged(s.known),
			Peer:   s.theirs.Member, Kind: told.reason.Kind, Reason: told.reason.Text,
		}
	}
	return nil
}

// learn takes over whom an acceptor knows that was proven, or by which this member, being new, is introduced.
func (s *session) learn(told verdict) error {
	if s.ours.Fresh && len(told.refusals) > 0 {
		if err := s.Keeper.TakeOver(told.refusals); err != nil {
			return fmt.Errorf("take over the commands that member %x refuses: %w", s.theirs.Member, err)
		}
	}
	if len(told.heard) == 0 || !s.met && !s.ours.Fresh {
		return nil
	}
	delete(told.heard, s.ours.Member)
	if err := s.Keeper.Learn(told.heard); err != nil {
		return errors.Join(fmt.Errorf("record whom member %x knows", s.theirs.Member), err)
	}
	return nil
}

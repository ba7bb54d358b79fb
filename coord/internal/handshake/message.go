package handshake

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Purpose says what a connection is for.
type Purpose uint8

// The purposes of connections. Values are appended, never reordered.
const (
	Raft     Purpose = 1 // raft messages
	Snapshot Purpose = 2 // the chunks of a snapshot
	// Ask asks whether a directory that was never admitted would be refused. It shows no incarnation and leaves no
	// trace.
	Ask Purpose = 3
	// Introduce has its incarnation recorded.
	Introduce Purpose = 4
)

// ErrBadMessage is returned for bytes that are no message of a handshake.
var ErrBadMessage = errors.New("bad handshake message")

// The messages. On the wire each is kind u8 | length u16 | body; integers are little endian everywhere.
type kind uint8

const (
	kindHello   kind = 1
	kindProof   kind = 2
	kindVerdict kind = 3
)

// maxMessage bounds what is read before the sender is known: a verdict names all members with 40 bytes each.
const maxMessage = 32 << 10

func writeMessage(w io.Writer, k kind, body []byte) error {
	b := make([]byte, 0, 3+len(body))
	b = append(b, byte(k))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

func readMessage(r io.Reader, want kind) ([]byte, error) {
	var h [3]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	size := int(binary.LittleEndian.Uint16(h[1:]))
	if kind(h[0]) != want || size > maxMessage {
		return nil, fmt.Errorf("%w: kind %d of %d bytes, want kind %d", ErrBadMessage, h[0], size, want)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadMessage, err)
	}
	return b, nil
}

// fields is the body of a message: tag u8 | length u16 | value, in any order, each tag once. A tag that is not known is
// passed over, so that later versions can say more; what it says is covered by the proofs all the same.
type fields map[byte][]byte

// encode writes the fields by ascending tag.
func (f fields) encode() []byte {
	var b []byte
	for _, tag := range slices.Sorted(maps.Keys(f)) {
		b = append(b, tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(f[tag])))
		b = append(b, f[tag]...)
	}
	return b
}

func decodeFields(b []byte) (fields, error) {
	f := make(fields)
	for len(b) > 0 {
		if len(b) < 3 || len(b)-3 < int(binary.LittleEndian.Uint16(b[1:])) {
			return nil, fmt.Errorf("%w: field cut short", ErrBadMessage)
		}
		tag, size := b[0], int(binary.LittleEndian.Uint16(b[1:]))
		if _, twice := f[tag]; twice {
			return nil, fmt.Errorf("%w: field %d twice", ErrBadMessage, tag)
		}
		f[tag], b = b[3:3+size:3+size], b[3+size:]
	}
	return f, nil
}

func (f fields) putUint(tag byte, v uint64) {
	if v != 0 {
		f[tag] = binary.LittleEndian.AppendUint64(nil, v)
	}
}

// uint is 0 for a field that is missing.
func (f fields) uint(tag byte) (uint64, error) {
	switch v, ok := f[tag]; {
	case !ok:
		return 0, nil
	case len(v) == 8:
		return binary.LittleEndian.Uint64(v), nil
	}
	return 0, fmt.Errorf("%w: field %d of %d bytes", ErrBadMessage, tag, len(f[tag]))
}

// copyTo fills dst, which a field of that length must be there for.
func (f fields) copyTo(dst []byte, tag byte) error {
	if len(f[tag]) != len(dst) {
		return fmt.Errorf("%w: field %d of %d bytes, want %d", ErrBadMessage, tag, len(f[tag]), len(dst))
	}
	copy(dst, f[tag])
	return nil
}

// Hello is what one side says of itself before anything is proven.
type Hello struct {
	Purpose         Purpose
	Cluster, Member uint64
	// Wanted is the member that the sender believes it talks to.
	Wanted uint64
	// Boot and Start name the start of the sender's process.
	Boot, Start uint64
	// Fresh: the sender has never taken part in Raft from its directory.
	Fresh bool
	// Knows: the sender has the receiver's incarnation on record.
	Knows bool
	// Fingerprint is that of the sender's incarnation.
	Fingerprint Fingerprint
	// Refusals is the digest of the commands of the log that the sender refuses.
	Refusals [sha256.Size]byte
	// MinVersion and MaxVersion are what the sender's release knows, Version is the cluster's as far as it knows it, 0
	// if not.
	MinVersion, MaxVersion, Version uint64
	// History is the identity of the history that the sender has applied, 0 if it knows of none.
	History uint64

	challenge [32]byte
}

// Tags of a hello. Append, never reuse; a field that older versions must not pass over does not exist.
const (
	tagPurpose byte = iota + 1
	tagCluster
	tagMember
	tagWanted
	tagBoot
	tagStart
	tagFlags
	tagFingerprint
	tagChallenge
	tagRefusals
	tagMinVersion
	tagMaxVersion
	tagVersion
	tagHistory
)

const (
	flagFresh = 1 << iota
	flagKnows
)

func (h *Hello) numbers() map[byte]*uint64 {
	return map[byte]*uint64{
		tagCluster: &h.Cluster, tagMember: &h.Member, tagWanted: &h.Wanted, tagBoot: &h.Boot, tagStart: &h.Start,
		tagMinVersion: &h.MinVersion, tagMaxVersion: &h.MaxVersion, tagVersion: &h.Version, tagHistory: &h.History,
	}
}

func (h *Hello) encode() []byte {
	f := fields{
		tagPurpose: {byte(h.Purpose)}, tagFingerprint: h.Fingerprint[:], tagChallenge: h.challenge[:],
		tagRefusals: h.Refusals[:],
	}
	for tag, v := range h.numbers() {
		f.putUint(tag, *v)
	}
	var flags byte
	if h.Fresh {
		flags |= flagFresh
	}
	if h.Knows {
		flags |= flagKnows
	}
	f[tagFlags] = []byte{flags}
	return f.encode()
}

func decodeHello(b []byte) (h Hello, err error) {
	f, err := decodeFields(b)
	if err != nil {
		return h, err
	}
	for tag, v := range h.numbers() {
		if *v, err = f.uint(tag); err != nil {
			return h, err
		}
	}
	var purpose, flags [1]byte
	err = errors.Join(f.copyTo(purpose[:], tagPurpose), f.copyTo(flags[:], tagFlags),
		f.copyTo(h.Fingerprint[:], tagFingerprint), f.copyTo(h.challenge[:], tagChallenge),
		f.copyTo(h.Refusals[:], tagRefusals))
	h.Purpose, h.Fresh, h.Knows = Purpose(purpose[0]), flags[0]&flagFresh != 0, flags[0]&flagKnows != 0
	return h, err
}

// proof shows that its sender knows what it claims to know, see prove.
type proof struct {
	own, pair []byte
	// number is the sender's incarnation for a receiver that does not know it, sealed if the sender knows the
	// receiver's.
	number []byte
}

const (
	tagOwn byte = iota + 1
	tagPair
	tagNumber
)

func (p *proof) encode() []byte {
	f := fields{tagOwn: p.own}
	if p.pair != nil {
		f[tagPair] = p.pair
	}
	if p.number != nil {
		f[tagNumber] = p.number
	}
	return f.encode()
}

func decodeProof(b []byte) (proof, error) {
	f, err := decodeFields(b)
	return proof{own: f[tagOwn], pair: f[tagPair], number: f[tagNumber]}, err
}

// verdict is what one side decided about the other.
type verdict struct {
	reason Reason // of kind Admitted: no refusal
	number []byte // as in a proof
	heard  map[uint64]Fingerprint
	// refusals are told to a dialer that is new.
	refusals []string
	tag      []byte // over the rest, by the sender's incarnation
}

const (
	tagKind byte = iota + 1
	tagText
	tagVerdictNumber
	tagHeard
	tagTakeOver
)

// maxText bounds the text of a refusal on the wire, in bytes.
const maxText = 1 << 10

// body is the verdict without its tag.
func (v *verdict) body() []byte {
	f := fields{tagKind: {byte(v.reason.Kind)}}
	if text := v.reason.Text; text != "" {
		f[tagText] = []byte(text[:min(len(text), maxText)])
	}
	if v.number != nil {
		f[tagVerdictNumber] = v.number
	}
	if len(v.heard) > 0 {
		f[tagHeard] = encodeHeard(v.heard)
	}
	if len(v.refusals) > 0 {
		f[tagTakeOver] = []byte(strings.Join(v.refusals, " "))
	}
	return f.encode()
}

// maxRefusals bounds the list of refused commands in a verdict, in bytes: hundreds of them.
const maxRefusals = 8 << 10

// DigestRefusals is equal for equal lists.
func DigestRefusals(refusals []string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.Join(refusals, " ")))
}

const heardSize = 8 + len(Fingerprint{})

func encodeHeard(heard map[uint64]Fingerprint) []byte {
	ids := slices.Sorted(maps.Keys(heard))
	var b []byte
	for _, id := range ids[:min(len(ids), (maxMessage-2*maxText-maxRefusals)/heardSize)] {
		f := heard[id]
		b = append(binary.LittleEndian.AppendUint64(b, id), f[:]...)
	}
	return b
}

// decodeVerdict takes the body and the tag at its end apart.
func decodeVerdict(b []byte) (v verdict, body []byte, err error) {
	if len(b) < tagSize {
		return v, nil, fmt.Errorf("%w: verdict of %d bytes", ErrBadMessage, len(b))
	}
	body, v.tag = b[:len(b)-tagSize], b[len(b)-tagSize:]
	f, err := decodeFields(body)
	if err != nil {
		return v, nil, err
	}
	var k [1]byte
	if err := f.copyTo(k[:], tagKind); err != nil {
		return v, nil, err
	}
	v.reason = Reason{Kind: Kind(k[0]), Text: printable(f[tagText])}
	v.number = f[tagVerdictNumber]
	if len(f[tagTakeOver]) > maxRefusals {
		return v, nil, fmt.Errorf("%w: %d bytes of refused commands", ErrBadMessage, len(f[tagTakeOver]))
	}
	v.refusals = strings.Fields(string(f[tagTakeOver]))
	if len(f[tagHeard])%heardSize != 0 {
		return v, nil, fmt.Errorf("%w: %d bytes of members", ErrBadMessage, len(f[tagHeard]))
	}
	v.heard = make(map[uint64]Fingerprint)
	for b := range slices.Chunk(f[tagHeard], heardSize) {
		v.heard[binary.LittleEndian.Uint64(b)] = Fingerprint(b[8:])
	}
	return v, body, nil
}

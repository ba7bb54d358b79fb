package handshake

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
)

// Incarnation is the random number that a data directory was created with. It is what a member proves itself by, so it
// is a secret: however it is printed or encoded, it shows its name, a fingerprint cut short. Reveal is the one
// exception.
type Incarnation struct{ n [32]byte }

// Fingerprint tells incarnations apart without giving them away.
type Fingerprint [sha256.Size]byte

// NewIncarnation draws one.
func NewIncarnation() (Incarnation, error) {
	var i Incarnation
	if _, err := rand.Read(i.n[:]); err != nil {
		return i, fmt.Errorf("draw an incarnation: %w", err)
	}
	return i, nil
}

// NewStart draws the number of a start, which is not 0.
func NewStart() (uint64, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("draw the number of a start: %w", err)
		}
		if n := binary.LittleEndian.Uint64(b[:]); n != 0 {
			return n, nil
		}
	}
}

// ParseIncarnation is the inverse of Reveal.
func ParseIncarnation(s string) (Incarnation, error) {
	var i Incarnation
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(i.n) || hex.EncodeToString(b) != s {
		// without the text: it may be half of one
		return i, fmt.Errorf("not an incarnation of %d hexadecimal digits", 2*len(i.n))
	}
	copy(i.n[:], b)
	return i, nil
}

// Reveal is the number itself in hexadecimal digits, for the member's own disk and for nothing else.
func (i Incarnation) Reveal() string { return hex.EncodeToString(i.n[:]) }

// IsZero reports whether there is none.
func (i Incarnation) IsZero() bool { return i == Incarnation{} }

// Equal compares in constant time.
func (i Incarnation) Equal(other Incarnation) bool { return hmac.Equal(i.n[:], other.n[:]) }

// Fingerprint is the same for the same incarnation, and says nothing of it.
func (i Incarnation) Fingerprint() Fingerprint {
	return Fingerprint(sha256.Sum256(append([]byte("coord incarnation\x00"), i.n[:]...)))
}

// String is the incarnation's name.
func (i Incarnation) String() string { return i.Fingerprint().String() }

// Format implements fmt.Formatter, so that no verb shows the number.
func (i Incarnation) Format(w fmt.State, _ rune) { io.WriteString(w, i.String()) }

// MarshalText gives the name, so that no encoder shows the number.
func (i Incarnation) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// String is short enough to be read, and long enough to tell directories apart.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:8]) }

// ParseFingerprint reads what Digits wrote.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(f) || hex.EncodeToString(b) != s {
		return f, fmt.Errorf("%q is not a fingerprint of %d hexadecimal digits", s, 2*len(f))
	}
	return Fingerprint(b), nil
}

// Digits is the whole fingerprint.
func (f Fingerprint) Digits() string { return hex.EncodeToString(f[:]) }

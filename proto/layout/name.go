package layout

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits, in bytes.
const (
	MaxName     = 1024 // of a queue, an object or a group
	MaxMemberID = 128
	MaxOwnerID  = 64
	MaxEscaped  = 256 // of what is escaped in keys: services, instances, bundles and who reports on them
)

// CheckName says why name cannot name a queue, an object or a group, nil if it can.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("name is empty")
	case len(name) > MaxName:
		return fmt.Errorf("name has %d bytes, more than %d", len(name), MaxName)
	case strings.HasSuffix(name, "/"):
		return fmt.Errorf("name %q ends in a slash", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	case name+"/" == Reserved:
		return fmt.Errorf("name %q is reserved", name)
	case strings.HasPrefix(name, Reserved):
		return fmt.Errorf("name %q begins with %s, which is reserved", name, Reserved)
	}
	return nil
}

// CheckMember says why id cannot be that of a member of a group, nil if it can.
func CheckMember(id string) error {
	if id == "" || len(id) > MaxMemberID {
		return fmt.Errorf("member id has %d bytes, not between 1 and %d", len(id), MaxMemberID)
	}
	if !consistsOf(id, "_.:@-") {
		return fmt.Errorf("member id %q has other characters than 0-9, A-Z, a-z and _.:@-", id)
	}
	return nil
}

// CheckOwnerID says why id cannot tell apart owners in a session, nil if it can. The empty one can.
func CheckOwnerID(id string) error {
	if len(id) > MaxOwnerID {
		return fmt.Errorf("owner id has %d bytes, more than %d", len(id), MaxOwnerID)
	}
	if !consistsOf(id, "_-") {
		return fmt.Errorf("owner id %q has other characters than 0-9, A-Z, a-z, _ and -", id)
	}
	return nil
}

// consistsOf reports whether s has letters and digits of ASCII and others only.
func consistsOf(s, others string) bool {
	for _, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}

// ErrBadName: a name that is escaped in keys is empty, too long, reserved, or has characters that cannot be shown.
var ErrBadName = errors.New("bad name")

// CheckService says why name cannot be a service's, nil if it can. The error wraps ErrBadName.
func CheckService(name string) error {
	if err := checkEscaped("service", name); err != nil {
		return err
	}
	if strings.HasPrefix(name, reservedName) {
		return fmt.Errorf("%w: service %q begins with %s, which is reserved", ErrBadName, name, reservedName)
	}
	return nil
}

// reservedName begins no service: in etcd's layout its mirrors would stand below it.
const reservedName = "_coord"

// CheckInstance says why id cannot be that of an instance, nil if it can. The error wraps ErrBadName.
func CheckInstance(id string) error { return checkEscaped("id", id) }

// CheckBundle says why name cannot be that of a bundle, or of a client that reports on one, nil if it can. The error
// wraps ErrBadName.
func CheckBundle(name string) error { return checkEscaped("name", name) }

func checkEscaped(what, name string) error {
	switch FaultOf(name) {
	case Empty:
		return fmt.Errorf("%w: no %s", ErrBadName, what)
	case TooLong:
		return fmt.Errorf("%w: a %s of %d bytes, at most %d", ErrBadName, what, len(name), MaxEscaped)
	case Unprintable:
		return fmt.Errorf("%w: %s %q has characters that cannot be shown", ErrBadName, what, name)
	}
	return nil
}

// Fault is what is wrong with a name that is escaped in keys, for who says it in words of its own.
type Fault int

const (
	Faultless   Fault = iota
	Empty             // there is none
	TooLong           // it has more than MaxEscaped bytes
	Unprintable       // it is not UTF-8, or has control characters
)

// FaultOf says what is wrong with a name that is escaped in keys.
func FaultOf(name string) Fault {
	switch {
	case name == "":
		return Empty
	case len(name) > MaxEscaped:
		return TooLong
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return Unprintable
	}
	return Faultless
}

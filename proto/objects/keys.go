package objects

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// What the keys of each kind begin with. A name follows.
const (
	CounterPrefix  = reserved + "counters/"
	SequencePrefix = reserved + "sequences/"
	LatchPrefix    = reserved + "latches/"
	GatePrefix     = reserved + "gates/"
	GroupPrefix    = reserved + "groups/"
)

// reserved begins the keys that are not in etcd's layout; no name does.
const reserved = "_coord/"

// Limits, in bytes.
const (
	MaxName     = 1024
	MaxMemberID = 128
	MaxData     = 65536 // of a member
	MaxReason   = 1024  // of a gate
)

// CheckName says why name cannot name a recipe's object, nil if it can.
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
	case name+"/" == reserved:
		return fmt.Errorf("name %q is reserved", name)
	case strings.HasPrefix(name, reserved):
		return fmt.Errorf("name %q begins with %s, which is reserved", name, reserved)
	}
	return nil
}

// CheckMember says why id cannot be a member's, nil if it can.
func CheckMember(id string) error {
	if id == "" || len(id) > MaxMemberID {
		return fmt.Errorf("member id has %d bytes, not between 1 and %d", len(id), MaxMemberID)
	}
	for _, c := range []byte(id) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune("_.:@-", rune(c)) {
			return fmt.Errorf("member id %q has other characters than 0-9, A-Z, a-z and _.:@-", id)
		}
	}
	return nil
}

// GroupKeys is the prefix under which the members of a group stand, and nested groups.
func GroupKeys(group string) string { return GroupPrefix + group + "/" }

// GroupRange is the interval [key, end) in which the members of a group are, and nested groups.
func GroupRange(group string) (key, end []byte) {
	return []byte(GroupKeys(group)), []byte(GroupPrefix + group + "0") // '0' follows '/'
}

// MemberKey is the key of a member.
func MemberKey(group, id string) string { return GroupKeys(group) + id }

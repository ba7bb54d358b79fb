package recipes

import (
	"maps"
	"slices"
	"strings"
)

// Limits of a lock entry's value.
const (
	MaxOwnerLen  = 1024 // bytes
	MaxLabelsLen = 4096 // bytes, as encoded
)

// EncodeIdentity returns the value of a lock's entry: owner, and behind it a line "key=value" for each label in the
// order of the keys. Without labels it is the plain owner, as an etcd client would write it. The error wraps
// statemachine.ErrInvalid.
func EncodeIdentity(owner string, labels map[string]string) ([]byte, error) {
	if strings.Contains(owner, "\n") {
		return nil, invalid("owner %q has a line break", owner)
	}
	if len(owner) > MaxOwnerLen {
		return nil, invalid("owner has %d bytes, more than %d", len(owner), MaxOwnerLen)
	}
	if len(labels) == 0 {
		return []byte(owner), nil
	}
	var b strings.Builder
	b.WriteString(owner)
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k == "" || strings.ContainsAny(k, "=\n") || strings.Contains(labels[k], "\n") {
			return nil, invalid("label %q=%q: a key is not empty and has no equals sign, and neither has a line break",
				k, labels[k])
		}
		b.WriteString("\n" + k + "=" + labels[k])
	}
	if n := b.Len() - len(owner); n > MaxLabelsLen {
		return nil, invalid("labels have %d bytes, more than %d", n, MaxLabelsLen)
	}
	return []byte(b.String()), nil
}

// DecodeIdentity takes apart the value of a lock's entry. A value that no EncodeIdentity wrote is all owner; what is
// not UTF-8 in it is replaced.
//
// Neither of both may change what it does, as little as a procedure: who waits is told of the holder in an outcome,
// which is state, so two releases that decode a value differently would have two states. Something new that an entry
// says gets a function beside, which nothing calls before the version of the cluster that brings it.
func DecodeIdentity(value []byte) (owner string, labels map[string]string) {
	text := strings.ToValidUTF8(string(value), "\uFFFD")
	owner, rest, more := strings.Cut(text, "\n")
	for more {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		k, v, ok := strings.Cut(line, "=")
		if !ok || k == "" {
			return text, nil
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[k] = v
	}
	return owner, labels
}

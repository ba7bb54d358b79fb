package machine

import (
	"bytes"

	"github.com/coord-dev/coord/statemachine"
)

// keySet is a set of keys, of which it keeps the slices. Nearly always there are one or two: those need no map.
type keySet struct {
	few [4][]byte
	n   int // of few
	// sweeps have more keys of the set.
	sweeps []statemachine.Sweep
	many   map[string]struct{}
}

// add adds a key and reports whether it was not there before.
func (s *keySet) add(key []byte) bool {
	for _, k := range s.few[:s.n] {
		if bytes.Equal(k, key) {
			return false
		}
	}
	for _, sweep := range s.sweeps {
		if sweep.Has(key) {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = key
		s.n++
		return true
	}
	if _, ok := s.many[string(key)]; ok {
		return false
	}
	if s.many == nil {
		s.many = make(map[string]struct{})
	}
	s.many[string(key)] = struct{}{}
	return true
}

package machine

import (
	"fmt"
	"testing"
)

func TestKeySet(t *testing.T) {
	var s keySet
	for round := range 2 {
		for i := range 20 {
			if added := s.add(fmt.Append(nil, "key", i)); added != (round == 0) {
				t.Fatalf("round %d: added key %d: %v", round, i, added)
			}
		}
	}
}

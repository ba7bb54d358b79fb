package fence

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Checker decides about tokens. Safe for concurrent use.
type Checker interface {
	// Check returns nil if the request may go on. The error wraps ErrStale if the token is not good; any other error
	// means that nobody knows, and the request must not go on either.
	Check(ctx context.Context, t Token) error
}

// MaxSeen refuses tokens that are smaller than the largest one it has seen of the same name. It forgets with the
// process.
type MaxSeen struct {
	names []string
	mu    sync.Mutex
	seen  map[string]int64
}

// NewMaxSeen returns a checker for these names; it refuses any other, so that a caller cannot get in with a lock of its
// own.
func NewMaxSeen(names ...string) *MaxSeen {
	return &MaxSeen{names: slices.Clone(names), seen: map[string]int64{}}
}

// Check implements Checker.
func (m *MaxSeen) Check(_ context.Context, t Token) error {
	if !slices.Contains(m.names, t.Name) {
		return fmt.Errorf("%w: lock %q does not protect this", ErrStale, t.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if seen := m.seen[t.Name]; t.Token < seen {
		return fmt.Errorf("%w: %d of %q, %d was seen", ErrStale, t.Token, t.Name, seen)
	}
	m.seen[t.Name] = t.Token
	return nil
}

// Asker is a *client.Client.
type Asker interface {
	CheckToken(ctx context.Context, name, key string, token int64) (bool, error)
}

// Ask returns a checker that asks the servers, linearizably, whether the token holds now, for these names; it refuses
// any other.
func Ask(a Asker, names ...string) Checker { return &asking{a, slices.Clone(names)} }

type asking struct {
	asker Asker
	names []string
}

func (a *asking) Check(ctx context.Context, t Token) error {
	if !slices.Contains(a.names, t.Name) {
		return fmt.Errorf("%w: lock %q does not protect this", ErrStale, t.Name)
	}
	holds, err := a.asker.CheckToken(ctx, t.Name, t.Key, t.Token)
	if err != nil {
		return fmt.Errorf("check fencing token %d of %q: %w", t.Token, t.Name, err)
	}
	if !holds {
		return fmt.Errorf("%w: %d of %q", ErrStale, t.Token, t.Name)
	}
	return nil
}

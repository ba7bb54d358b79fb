package principal

import (
	"context"
	"errors"
	"testing"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// TestFor: what goes on after a call is for who called, and for nobody if the call did not say; never for who goes on.
func TestFor(t *testing.T) {
	member, user := Member(context.Background()), raftv1.Principal{User: "u", AuthRevision: 3}
	if p, err := Of(For(member, With(context.Background(), user))); err != nil || p != user {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := Of(For(member, context.Background())); !errors.Is(err, ErrNone) {
		t.Errorf("nobody asked, and it is for %+v, %v", p, err)
	}
	if p, err := Of(member); err != nil || !p.Member {
		t.Errorf("%+v, %v", p, err)
	}
}

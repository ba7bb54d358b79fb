// Package principal carries through a context who asks for something. Every way into the log needs one: a command whose
// context has none is refused, so that nobody can add a way that forgets to say for whom it speaks.
//
// The gate of the gRPC server (package api) says it for all that clients ask, whatever service answers them: etcd's
// services, the native stream, the recipes, configuration, introspection. A stream keeps that of its context for all
// that it sends through the log. What a member does for the cluster's sake is its own: see Member.
package principal

import (
	"context"
	"errors"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// ErrNone: a context does not say who asks. It is a fault of this program, not of a client.
var ErrNone = errors.New("nobody is named for whom this is done")

type key struct{}

// With is ctx with who asks.
func With(ctx context.Context, p raftv1.Principal) context.Context {
	return context.WithValue(ctx, key{}, p)
}

// Member is ctx for what a member does for the cluster's sake.
func Member(ctx context.Context) context.Context { return With(ctx, raftv1.Principal{Member: true}) }

// For is ctx, for him who asks in asked, or for nobody if nobody does: for what goes on after the call that wanted it.
func For(ctx, asked context.Context) context.Context {
	return context.WithValue(ctx, key{}, asked.Value(key{}))
}

// Of is who asks. The error is ErrNone.
func Of(ctx context.Context) (raftv1.Principal, error) {
	p, ok := ctx.Value(key{}).(raftv1.Principal)
	if !ok {
		return p, ErrNone
	}
	return p, nil
}

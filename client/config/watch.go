package config

import (
	"context"
	"fmt"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/proto/layout"
)

// Store is what Watch needs of a client. *clientv3.Client has it, and so has client.Client.
type Store interface {
	Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error)
	Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan
}

// Snapshot is a value and the version that says so. Nobody may modify what the value points to.
type Snapshot[T any] struct {
	Value   T
	Version Version // the zero one for the default
}

// Value is a configuration that is kept up to date. All methods are safe for concurrent use.
type Value[T any] struct {
	decode   func(Documents) (T, error)
	validate func(T) error
	onChange func(before, now Snapshot[T])
	current  atomic.Pointer[Snapshot[T]]
	*follower
}

// Watch follows a bundle until ctx ends or Close. It returns with a first value, which is, in this order: the current
// version, if it can be had within Patience and is good; the copy on disk; the default; else the error is
// ErrUnknownBundle, ErrRefused, or why the cluster cannot be reached.
func Watch[T any](ctx context.Context, store Store, bundle string, opts ...Option) (*Value[T], error) {
	o, err := optionsOf(opts)
	if err != nil {
		return nil, err
	}
	v := &Value[T]{
		decode:   typed[func(Documents) (T, error)]("Decode", o.decode, &err),
		validate: typed[func(T) error]("Validate", o.validate, &err),
		onChange: typed[func(before, now Snapshot[T])]("OnChange", o.onChange, &err),
	}
	fallback := typed[T]("Default", o.fallback, &err)
	if err != nil {
		return nil, err
	}
	if v.decode == nil {
		v.decode = func(d Documents) (T, error) { return decode[T](d, o.document) }
	}
	v.follower = newFollower(store, bundle, o, v.judge)
	if err := v.begin(ctx); err != nil {
		if o.fallback == nil {
			return nil, fmt.Errorf("watch %q: %w", bundle, err)
		}
		v.current.Store(&Snapshot[T]{Value: fallback})
	}
	v.start(ctx)
	return v, nil
}

// judge says whether version can be the value; see the type judge.
func (v *Value[T]) judge(version Version) (swap, announce func(), err error) {
	value, err := v.decode(version.Documents)
	if err == nil && v.validate != nil {
		err = v.validate(value)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: version %d: %w", ErrRefused, version.Number, err)
	}
	var before *Snapshot[T]
	now := &Snapshot[T]{Value: value, Version: version}
	swap = func() { before = v.current.Swap(now) }
	announce = func() {
		if before != nil && v.onChange != nil {
			v.onChange(*before, *now)
		}
	}
	return swap, announce, nil
}

// Load is the current value. It costs an atomic load.
func (v *Value[T]) Load() T { return v.current.Load().Value }

// Current is the current value with its version.
func (v *Value[T]) Current() Snapshot[T] { return *v.current.Load() }

// Rev is the store's revision at which the current value was published, 0 for the default.
func (v *Value[T]) Rev() int64 { return v.current.Load().Version.Revision }

// Version is the number of the current value's version, 0 for the default.
func (v *Value[T]) Version() int64 { return v.current.Load().Version.Number }

// currentKey is what is watched.
func currentKey(bundle string) string { return layout.CurrentKey(bundle) }

package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
)

// Errors of a Mutex.
var (
	// ErrLocked: TryLock found the mutex locked.
	ErrLocked = errors.New("mutex: Locked by another session")
	// ErrSessionExpired: the session is over.
	ErrSessionExpired = errors.New("mutex: session is expired")
	// ErrLockReleased: Unlock of what is not locked.
	ErrLockReleased = errors.New("mutex: lock has already been released")
)

// Mutex is etcd's: locks of coord, etcd and this package with the same name exclude each other. For one goroutine at a
// time.
type Mutex struct {
	lock *client.Lock
	held *client.Held
}

// NewMutex returns the mutex of that name in the session.
func NewMutex(s *Session, pfx string) *Mutex { return &Mutex{lock: s.session.Lock(pfx)} }

// Lock waits until the mutex is ours. If ctx ends first, no key is left behind.
func (m *Mutex) Lock(ctx context.Context) error { return m.take(m.lock.Acquire(ctx)) }

// TryLock locks the mutex if it is free; else the error is ErrLocked.
func (m *Mutex) TryLock(ctx context.Context) error { return m.take(m.lock.TryAcquire(ctx)) }

func (m *Mutex) take(held *client.Held, err error) error {
	switch {
	case err == nil:
		m.held = held
		return nil
	case errors.Is(err, client.ErrNotAcquired):
		return ErrLocked
	case errors.Is(err, client.ErrSessionExpired), errors.Is(err, client.ErrSessionClosed):
		return fmt.Errorf("%w: %w", ErrSessionExpired, err)
	}
	return err
}

// Unlock gives the mutex to the next in line.
func (m *Mutex) Unlock(ctx context.Context) error {
	if m.held == nil {
		return ErrLockReleased
	}
	if err := m.held.Release(ctx); err != nil {
		return err
	}
	m.held = nil
	return nil
}

// IsOwner is a precondition for a transaction: the mutex is ours. Like etcd's it is one comparison, and does not see
// that somebody put our key on another lease; client.Held's Guards do.
func (m *Mutex) IsOwner() v3.Cmp {
	if m.held == nil {
		return v3.Compare(v3.CreateRevision("\x00"), "=", -1) // never so
	}
	return v3.Compare(v3.CreateRevision(m.held.Key()), "=", m.held.Token())
}

// Key is the key of our entry; "\x00" while the mutex is not ours.
func (m *Mutex) Key() string {
	if m.held == nil {
		return "\x00"
	}
	return m.held.Key()
}

// Header has the revision at which the mutex became ours; nil while it is not.
func (m *Mutex) Header() *pb.ResponseHeader {
	if m.held == nil {
		return nil
	}
	return &pb.ResponseHeader{Revision: m.held.Revision()}
}

// NewLocker returns the mutex as a sync.Locker, whose methods have neither context nor error: Lock panics if the
// session is over, as etcd's does; Unlock does not, because then nothing is locked any more. Prefer Mutex.
func NewLocker(s *Session, pfx string) sync.Locker {
	return &locker{session: s, mutex: NewMutex(s, pfx)}
}

type locker struct {
	session *Session
	mutex   *Mutex
}

func (l *locker) Lock() {
	if err := l.mutex.Lock(l.session.ctx); err != nil {
		panic(err)
	}
}

func (l *locker) Unlock() { _ = l.mutex.Unlock(l.session.ctx) }

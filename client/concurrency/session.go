package concurrency

import (
	"context"
	"time"

	v3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
)

const defaultTTL = 60 // seconds

// Session is a lease that is kept alive for the lifetime of a client. Safe for concurrent use.
type Session struct {
	client  *client.Client
	session *client.Session
	ttl     time.Duration
	ctx     context.Context
	cancel  context.CancelFunc
	parent  context.Context
}

// SessionOption configures NewSession.
type SessionOption func(*options)

type options struct {
	ttl time.Duration
	ctx context.Context
}

// WithTTL sets the TTL in seconds; it is 60 otherwise, or if seconds is not positive.
func WithTTL(seconds int) SessionOption {
	return func(o *options) {
		if seconds > 0 {
			o.ttl = time.Duration(seconds) * time.Second
		}
	}
}

// WithContext has the session's context end with ctx, which also bounds NewSession and Close.
func WithContext(ctx context.Context) SessionOption { return func(o *options) { o.ctx = ctx } }

// NewSession opens a session.
func NewSession(c *client.Client, opts ...SessionOption) (*Session, error) {
	o := options{ttl: defaultTTL * time.Second, ctx: context.Background()}
	for _, opt := range opts {
		opt(&o)
	}
	s, err := c.NewSession(o.ctx, client.WithTTL(o.ttl))
	if err != nil {
		return nil, err
	}
	session := &Session{client: c, session: s, ttl: o.ttl, parent: o.ctx}
	session.ctx, session.cancel = context.WithCancel(o.ctx)
	context.AfterFunc(s.Context(), session.cancel)
	return session, nil
}

// Client is the session's client.
func (s *Session) Client() *client.Client { return s.client }

// Lease is the session's lease, for keys that shall live as long.
func (s *Session) Lease() v3.LeaseID { return s.session.Lease() }

// Ctx ends when the session is lost or closed.
func (s *Session) Ctx() context.Context { return s.ctx }

// Done is closed when the session is lost or closed.
func (s *Session) Done() <-chan struct{} { return s.session.Done() }

// Close ends the session; what it held is handed on.
func (s *Session) Close() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(s.parent, s.ttl)
	defer cancel()
	return s.session.Close(ctx)
}

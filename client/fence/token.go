package fence

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// Key is the name of the metadata of gRPC and of the header of HTTP that carries a token.
const Key = "coord-fencing-token"

var (
	// ErrStale: the token is not the holder's any more.
	ErrStale = errors.New("stale fencing token")
	// ErrMissing: the request has no token, and must have one.
	ErrMissing = errors.New("no fencing token")
	// ErrMalformed: what came as a token is none.
	ErrMalformed = errors.New("malformed fencing token")
)

// Token is a grant of a lock or an election.
type Token struct {
	Name  string // of the lock
	Key   string // of the entry that holds
	Token int64  // the fencing token, > 0
}

// Grant is a *client.Held.
type Grant interface {
	Name() string
	Key() string
	Token() int64
}

// Of is the token of what is held.
func Of(g Grant) Token { return Token{Name: g.Name(), Key: g.Key(), Token: g.Token()} }

// Term is a *client.Leadership.
type Term interface {
	Name() string
	Key() string
	Term() int64
}

// OfTerm is the token of a leader.
func OfTerm(t Term) Token { return Token{Name: t.Name(), Key: t.Key(), Token: t.Term()} }

// String is the form in which a token travels: name, key and token, encoded like the query of a URL.
func (t Token) String() string {
	return url.Values{"name": {t.Name}, "key": {t.Key}, "token": {strconv.FormatInt(t.Token, 10)}}.Encode()
}

// Parse reads the form of String. The error wraps ErrMalformed.
func Parse(s string) (Token, error) {
	values, err := url.ParseQuery(s)
	if err != nil {
		return Token{}, fmt.Errorf("%w %q", ErrMalformed, s)
	}
	n, err := strconv.ParseInt(values.Get("token"), 10, 64)
	t := Token{Name: values.Get("name"), Key: values.Get("key"), Token: n}
	if err != nil || n <= 0 || t.Name == "" {
		return Token{}, fmt.Errorf("%w %q", ErrMalformed, s)
	}
	return t, nil
}

type contextKey struct{}

// WithToken returns a context whose requests carry the token, if they go through the interceptors and the transport of
// this package. On the side of the resource it is the context of the handler.
func WithToken(ctx context.Context, t Token) context.Context {
	return context.WithValue(ctx, contextKey{}, t)
}

// FromContext is the token of a context; false if it has none.
func FromContext(ctx context.Context) (Token, bool) {
	t, ok := ctx.Value(contextKey{}).(Token)
	return t, ok
}

// SetHeader puts a token into the header of a request of HTTP.
func SetHeader(h http.Header, t Token) { h.Set(Key, t.String()) }

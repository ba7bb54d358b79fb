package fence

import (
	"errors"
	"net/http"
)

// Handler refuses requests without a good token: 428 (precondition required) without one, 400 if it is malformed, 412
// (precondition failed) if it is stale, 503 if nobody knows. The next handler finds the token with FromContext.
func Handler(c Checker, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, err := check(r.Context(), c, r.Header.Values(Key))
		switch {
		case err == nil:
			next.ServeHTTP(w, r.WithContext(WithToken(r.Context(), t)))
		case errors.Is(err, ErrMissing):
			http.Error(w, err.Error(), http.StatusPreconditionRequired)
		case errors.Is(err, ErrMalformed):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case errors.Is(err, ErrStale):
			http.Error(w, err.Error(), http.StatusPreconditionFailed)
		default:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
}

// Transport attaches the token of a request's context, see WithToken. Base is nil for http.DefaultTransport.
type Transport struct{ Base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if token, ok := FromContext(r.Context()); ok {
		r = r.Clone(r.Context()) // a RoundTripper must not change the request
		SetHeader(r.Header, token)
	}
	return base.RoundTrip(r)
}

//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/fence"
)

// lockName is the lock that protects the file.
const lockName = "ledger"

// protection is how the file's server treats fencing tokens.
type protection string

const (
	unprotected protection = "without fencing"
	byMemory    protection = "with fencing: a token smaller than one seen is refused"
	byAsking    protection = "with fencing: coord is asked whether the token holds"
)

// file is a file with a server: GET reads it, PUT replaces it.
type file struct {
	mu   sync.Mutex
	text string
}

// ServeHTTP implements http.Handler.
func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, f.text)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.text = string(body)
}

func (f *file) content() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text
}

// serve serves the file until the test server is closed. c is for who asks coord.
func (f *file) serve(how protection, c *client.Client) *httptest.Server {
	var handler http.Handler = f
	switch how {
	case byMemory:
		handler = fence.Handler(fence.NewMaxSeen(lockName), f)
	case byAsking:
		handler = fence.Handler(fence.Ask(c, lockName), f)
	}
	return httptest.NewServer(handler)
}

// withToken sends the token of each request's context along.
var withToken = &http.Client{Transport: &fence.Transport{}}

func readFile(ctx context.Context, url string) (string, error) {
	return do(ctx, http.MethodGet, url, "")
}

func writeFile(ctx context.Context, url, text string) error {
	_, err := do(ctx, http.MethodPut, url, text)
	return err
}

func do(ctx context.Context, method, url, body string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := withToken.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return string(text), err
}

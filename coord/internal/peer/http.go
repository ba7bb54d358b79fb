package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// handedListener gives the HTTP server the connections that are not raft's.
type handedListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandedListener() *handedListener {
	return &handedListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// hand passes a connection on, or closes it when the server has stopped.
func (l *handedListener) hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *handedListener) Addr() net.Addr { return &net.TCPAddr{} }

// peerHost is the made-up host name a member has in the URLs of the peer client.
func peerHost(member uint64) string { return strconv.FormatUint(member, 16) + ".member" }

// URL returns the address of path on a member's peer port, for use with Client.
func URL(member uint64, path string) string { return "http://" + peerHost(member) + path }

// Client returns an HTTP client that reaches the peer ports of members: requests
// go to the URLs made by URL, wherever the member listens at the time. With TLS
// the connection is encrypted although the URL says http.
func (t *Transport) Client() *http.Client { return t.peerHTTP }

func (t *Transport) newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         t.dialHTTP,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     10 * t.opt.IdleTimeout,
	}}
}

func (t *Transport) dialHTTP(ctx context.Context, _, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var member uint64
	if _, err := fmt.Sscanf(host, "%x.member", &member); err != nil {
		return nil, fmt.Errorf("%s is not a member's host: %w", host, err)
	}
	w, err := dial(ctx, t.opt.Book.Addrs(member), t.opt.TLS, t.opt.IdleTimeout)
	if err != nil {
		return nil, fmt.Errorf("connect to member %x: %w", member, err)
	}
	if _, ok := w.Conn.(*tls.Conn); ok {
		return plain{w.Conn}, nil
	}
	return w.Conn, nil
}

// plain hides that a connection is encrypted from the HTTP client.
type plain struct{ net.Conn }

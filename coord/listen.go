package coord

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/keyspace"
	"github.com/coord-dev/coord/coord/internal/netlimit"
	"github.com/coord-dev/coord/coord/internal/registry"
)

// listeners are the member's open ports.
type listeners struct {
	client, peer []net.Listener
	dnsUDP       net.PacketConn // nil: DNS is not answered
	dnsTCP       net.Listener
	pages        *http.Server
}

// listen opens all ports, so that one that is taken is found before anything is touched. Port 0 in the configuration is
// replaced by the port it got.
func listen(c *Config) (_ *listeners, err error) {
	l := &listeners{}
	if l.peer, err = listenAll("--listen-peer-urls", c.ListenPeerURLs, c.InitialAdvertisePeerURLs); err != nil {
		return nil, err
	}
	if l.client, err = listenAll("--listen-client-urls", c.ListenClientURLs, c.AdvertiseClientURLs); err != nil {
		l.close()
		return nil, err
	}
	if c.ListenDNS != "" {
		if l.dnsUDP, l.dnsTCP, err = registry.ListenDNS(c.ListenDNS); err != nil {
			l.close()
			return nil, fmt.Errorf("--listen-dns: cannot listen on %s: %w", c.ListenDNS, err)
		}
		c.ListenDNS = l.dnsTCP.Addr().String()
	}
	return l, nil
}

// listenAll opens the ports of urls, and puts the ports they got into urls and where an advertised URL equals the one
// listened on.
func listenAll(flag string, urls, advertised []string) (open []net.Listener, err error) {
	for i, raw := range urls {
		u, err := url.Parse(raw)
		if err == nil {
			var l net.Listener
			if l, err = net.Listen("tcp", u.Host); err == nil {
				open = append(open, l)
			}
		}
		if err != nil {
			for _, l := range open {
				l.Close()
			}
			return nil, fmt.Errorf("%s: cannot listen on %s: %w", flag, raw, err)
		}
		if u.Port() == "0" {
			u.Host = net.JoinHostPort(u.Hostname(), fmt.Sprint(open[i].Addr().(*net.TCPAddr).Port))
			if at := slices.Index(advertised, raw); at >= 0 {
				advertised[at] = u.String()
			}
			urls[i] = u.String()
		}
	}
	return open, nil
}

// Times of HTTP/1 connections: nobody has a reason to read or send a page slowly. Who scrapes metrics keeps a
// connection.
const (
	pageTimeout = 30 * time.Second
	pageIdle    = 5 * time.Minute
	// maxPageHeader bounds the head of a request for a page, in bytes.
	maxPageHeader = 16 << 10
)

// servePages makes the server of the HTTP pages, which all client ports share.
func (l *listeners) servePages(log *zap.Logger, handler http.Handler) {
	l.pages = &http.Server{
		Handler: guard.HTTP(log, "page", handler), ErrorLog: zap.NewStdLog(log), MaxHeaderBytes: maxPageHeader,
		ReadHeaderTimeout: netlimit.HandshakeTimeout, ReadTimeout: pageTimeout, WriteTimeout: pageTimeout,
		IdleTimeout: pageIdle,
	}
}

// closeClients stops accepting clients; those that are connected stay.
func (l *listeners) closeClients() {
	for _, each := range l.client {
		each.Close()
	}
}

func (l *listeners) close() {
	l.closeClients()
	for _, each := range l.peer {
		each.Close()
	}
	if l.dnsUDP != nil {
		l.dnsUDP.Close()
		l.dnsTCP.Close()
	}
	if l.pages != nil {
		l.pages.Close()
	}
}

// serveClients serves gRPC and HTTP/1 on one port until the listener closes.
func serveClients(log *zap.Logger, l net.Listener, rpc *keyspace.Server, pages *http.Server) error {
	mux := netlimit.NewMux(l, log)
	results := make(chan error, 3)
	failed := func(cause any) { results <- guard.Status(cause) }
	go func() {
		defer guard.Recover(log, "accept", failed)
		results <- ignore(rpc.API.GRPC().Serve(rpc.Listen(mux.HTTP2())), grpc.ErrServerStopped, net.ErrClosed)
	}()
	go func() {
		defer guard.Recover(log, "accept", failed)
		results <- ignore(pages.Serve(mux.HTTP1()), http.ErrServerClosed, net.ErrClosed)
	}()
	go func() {
		defer guard.Recover(log, "accept", failed)
		results <- ignore(mux.Serve(), net.ErrClosed)
	}()
	var err error
	for range 3 {
		if e := <-results; e != nil && err == nil {
			err = e
			l.Close() // and so the others
		}
	}
	return err
}

func ignore(err error, harmless ...error) error {
	for _, h := range harmless {
		if errors.Is(err, h) {
			return nil
		}
	}
	return err
}

// borrowedListener lends a listener to a server whose Close would close it.
type borrowedListener struct{ *net.TCPListener }

// Close makes a pending Accept fail and leaves the port open.
func (b *borrowedListener) Close() error { return b.SetDeadline(time.Unix(1, 0)) }

// giveBack makes the listener usable again.
func (b *borrowedListener) giveBack() { b.SetDeadline(time.Time{}) }

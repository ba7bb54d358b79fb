package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/proto/instances"
)

// Sizes of answers over UDP, in bytes.
const (
	plainUDP = dns.MinMsgSize // to who says nothing
	maxUDP   = 1232           // to who says more: what passes every path unfragmented
)

// maxRecords bounds the records of one kind in an answer: a random choice, of a service with more instances.
const maxRecords = 1000

// DNS answers for the names in coord.:
//
//	SERVICE.service.coord.        A, AAAA, SRV, TXT of the service's passing instances
//	TAG.SERVICE.service.coord.    of those that have the tag
//	HEX.addr.coord.               A or AAAA of the address in hex: the targets of SRV
//
// Case does not count. The instances come in random order. Those that are kept although they have expired are answered,
// too; to who speaks EDNS that is said by the extended error "Stale Answer", and their TXT has stale=true. An instance
// whose address has a host name has no A or AAAA; its SRV names the host.
type DNS struct {
	mirror *mirror
	ttl    uint32 // seconds
	ready  <-chan struct{}
	log    *zap.Logger

	udp net.PacketConn
	tcp net.Listener

	names map[string]map[string]bool // services by their name in lower case; guarded by mirror.mu
}

// ListenDNS opens the ports of addr, host:port; port 0 takes one that is free for both UDP and TCP.
func ListenDNS(addr string) (udp net.PacketConn, tcp net.Listener, err error) {
	for range 10 { // the port that UDP got may be taken for TCP
		if udp, err = net.ListenPacket("udp", addr); err != nil {
			return nil, nil, err
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp, nil
		}
		udp.Close()
		if _, port, _ := net.SplitHostPort(addr); port != "0" {
			break
		}
	}
	return nil, nil, err
}

// NewDNS returns a server on open ports, which it closes. It answers SERVFAIL until ready is closed: the copy of a
// member that has just started may be old. TTL is rounded down to seconds.
func NewDNS(b Backend, udp net.PacketConn, tcp net.Listener, ttl time.Duration, ready <-chan struct{}) *DNS {
	d := &DNS{
		ttl: uint32(ttl / time.Second), ready: ready, log: b.Logger, udp: udp, tcp: tcp,
		names: map[string]map[string]bool{},
	}
	d.mirror = newMirror(&b, d.changed)
	return d
}

// Addr is where it listens.
func (d *DNS) Addr() string { return d.udp.LocalAddr().String() }

// Run serves until ctx ends.
func (d *DNS) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		guard.Loop(ctx, d.log, "registry", func() { d.mirror.run(ctx) })
		return nil
	})
	for _, server := range []*dns.Server{
		{PacketConn: d.udp, Handler: d, UDPSize: dns.DefaultMsgSize, DecorateReader: d.sound},
		{Listener: d.tcp, Handler: d, DecorateReader: d.sound},
	} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		group.Go(func() (failed error) {
			defer close(ended)
			defer guard.Recover(d.log, "dns", func(cause any) { failed = guard.Status(cause) })
			if err := server.ActivateAndServe(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("dns: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			defer guard.Recover(d.log, "dns")
			<-ctx.Done()
			select {
			case <-started: // before, there is nothing to shut down
			case <-ended:
				return nil
			}
			grace, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			return ignore(server.ShutdownContext(grace), context.DeadlineExceeded)
		})
	}
	return group.Wait()
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// changed keeps the index of names.
func (d *DNS) changed(touched []instances.Name) {
	d.mirror.mu.Lock()
	defer d.mirror.mu.Unlock()
	for _, name := range touched {
		lower := lower(name.Service)
		if d.mirror.set.Has(name.Service) {
			if d.names[lower] == nil {
				d.names[lower] = map[string]bool{}
			}
			d.names[lower][name.Service] = true
		} else if delete(d.names[lower], name.Service); len(d.names[lower]) == 0 {
			delete(d.names, lower)
		}
	}
}

// ServeDNS implements dns.Handler. Messages that cannot be parsed, and those whose header does not announce exactly one
// question, were answered by the library with FORMERR.
func (d *DNS) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	defer guard.Recover(d.log, "dns", func(any) { d.fail(w, req) })
	resp := new(dns.Msg)
	resp.SetReply(req)
	resp.RecursionAvailable = false
	size := dns.MaxMsgSize
	opt := req.IsEdns0()
	if w.LocalAddr().Network() == "udp" {
		if size = plainUDP; opt != nil {
			size = max(plainUDP, min(int(opt.UDPSize()), maxUDP))
		}
	}
	var own *dns.OPT
	if opt != nil {
		resp.SetEdns0(maxUDP, false)
		own = resp.IsEdns0()
	}
	if opt != nil && opt.Version() != 0 {
		resp.Rcode = dns.RcodeBadVers
	} else {
		d.answer(resp, own)
	}
	resp.Truncate(size)
	if err := w.WriteMsg(resp); err != nil {
		d.log.Debug("answering DNS", zap.Error(err)) // the client is gone
	}
}

// fail answers SERVFAIL.
func (d *DNS) fail(w dns.ResponseWriter, req *dns.Msg) {
	defer guard.Recover(d.log, "dns")
	resp := &dns.Msg{MsgHdr: dns.MsgHdr{Id: req.Id, Response: true, Opcode: req.Opcode, Rcode: dns.RcodeServerFailure}}
	_ = w.WriteMsg(resp)
}

// text is name=value for a TXT record, nil if it is too long for one.
func text(name, value string) []string {
	if value == "" || len(name)+1+len(value) > 255 {
		return nil
	}
	return []string{name + "=" + value}
}

func portOf(addr string) (host string, port uint16) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0
	}
	return host, uint16(n)
}

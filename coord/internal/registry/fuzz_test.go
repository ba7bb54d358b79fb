package registry

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coord-dev/coord/proto/instances"
	"github.com/coord-dev/coord/proto/layout"
)

// answers takes what a handler writes.
type answers struct {
	dns.ResponseWriter
	network string
	written []*dns.Msg
}

func (a *answers) LocalAddr() net.Addr {
	if a.network == "udp" {
		return &net.UDPAddr{}
	}
	return &net.TCPAddr{}
}

func (a *answers) WriteMsg(m *dns.Msg) error {
	a.written = append(a.written, m)
	return nil
}

// loud is a logger through which a recovered panic fails the test.
func loud(t testing.TB) *zap.Logger {
	return zap.NewExample(zap.Hooks(func(e zapcore.Entry) error {
		if e.Level >= zap.ErrorLevel {
			t.Errorf("%s", e.Message)
		}
		return nil
	}))
}

// populated is a server that knows a service, and answers.
func populated(t testing.TB) *DNS {
	ready := make(chan struct{})
	close(ready)
	d := NewDNS(Backend{Logger: loud(t)}, nil, nil, 0, ready)
	var kvs []*mvccpb.KeyValue
	for _, in := range []*instances.Instance{
		{Service: "pay", ID: "a", Addr: "10.0.0.1:81", State: instances.Passing, Tags: []string{"v2"}, Weight: 1},
		{Service: "pay", ID: "b", Addr: "[2001:db8::1]:81", State: instances.Passing, Weight: 1},
		{Service: "pay", ID: "c", Addr: "host.example:81", State: instances.Passing, Weight: 1},
	} {
		kvs = append(kvs, &mvccpb.KeyValue{
			Key: []byte(layout.InstanceKey(in.Service, in.ID)), Value: in.Encode(), Lease: 7, CreateRevision: 2,
			ModRevision: 2,
		})
	}
	d.mirror.apply(func() { d.mirror.set.Replace(time.Now(), kvs) })
	return d
}

// serve does with a packet what the library does.
func (d *DNS) serve(network string, packet []byte) []*dns.Msg {
	packet = reader{nil, d.log}.checked(packet)
	req := new(dns.Msg)
	if !announces(packet) || req.Unpack(packet) != nil {
		return nil
	}
	w := &answers{network: network}
	d.ServeDNS(w, req)
	return w.written
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A header that announces a question, with nothing behind it, passes the library's checks.
func TestAnnouncedQuestionIsMissing(t *testing.T) {
	header := packed(t, new(dns.Msg).SetQuestion("pay.service.coord.", dns.TypeA))[:12]
	for _, network := range []string{"udp", "tcp"} {
		got := populated(t).serve(network, header)
		if len(got) != 1 || got[0].Rcode != dns.RcodeFormatError {
			t.Errorf("over %s it is answered by %v", network, got)
		}
	}
}

// What makes the handler panic is answered, and so is the next question.
func TestDNSHandlerPanics(t *testing.T) {
	d := populated(t)
	d.log = zap.NewNop()
	question := packed(t, new(dns.Msg).SetQuestion("pay.service.coord.", dns.TypeA))
	names := d.names
	set := d.mirror.set
	d.mirror.set = nil
	got := d.serve("udp", question)
	if len(got) != 1 || got[0].Rcode != dns.RcodeServerFailure {
		t.Errorf("a panic is answered by %v", got)
	}
	d.mirror.set, d.names = set, names
	if got := d.serve("udp", question); len(got) != 1 || len(got[0].Answer) != 1 {
		t.Errorf("after a panic the answer is %v", got)
	}
}

// An error of one read does not end the server of a port that is open.
func TestDNSReadFails(t *testing.T) {
	var n net.Error
	_, _, err := reader{failing{}, zap.NewNop()}.ReadUDP(nil, 0)
	//lint:ignore SA1019 it is what the library asks
	if !errors.As(err, &n) || !n.Temporary() {
		t.Errorf("the library would end over %v", err)
	}
}

type failing struct{ dns.Reader }

func (failing) ReadUDP(*net.UDPConn, time.Duration) ([]byte, *dns.SessionUDP, error) {
	return nil, nil, errors.New("no buffer space available")
}

// No packet makes the handler panic, gets an answer that cannot be encoded, or one over UDP that is larger than it may
// be.
func FuzzDNS(f *testing.F) {
	ask := func(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, kind) }
	for _, name := range []string{"pay.service.coord.", "V2.pay.service.coord.", "0a000001.addr.coord.", "coord.", `\000\255.service.coord.`, "."} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypeANY, dns.TypeSOA,
			dns.TypeAXFR} {
			f.Add(packed(f, ask(name, kind)))
		}
	}
	edns := ask("pay.service.coord.", dns.TypeSRV)
	edns.SetEdns0(65535, true)
	f.Add(packed(f, edns))
	f.Add(packed(f, edns)[:12])
	f.Add(make([]byte, 12))
	d := populated(f)
	f.Fuzz(func(t *testing.T, packet []byte) {
		d.log = loud(t)
		for network, limit := range map[string]int{"udp": maxUDP, "tcp": dns.MaxMsgSize} {
			for _, m := range d.serve(network, packet) {
				if b, err := m.Pack(); err != nil || len(b) > limit {
					t.Errorf("over %s: %d bytes, %v", network, len(b), err)
				}
			}
		}
	})
}

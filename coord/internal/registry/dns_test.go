package registry_test

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/coord"
	coordregistry "github.com/coord-dev/coord/coord/internal/registry"
)

// startDNS starts a member that answers DNS, and returns where.
func startDNS(t *testing.T) (*world, string) {
	t.Helper()
	w := start(t, 1, func(c *coord.Config) { c.ListenDNS, c.DNSTTL = "127.0.0.1:0", 7*time.Second })
	return w, w.cluster.Server(0).Config().ListenDNS
}

func ask(t *testing.T, server string, msg *dns.Msg, network string) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: 10 * time.Second}
	resp, _, err := c.Exchange(msg, server)
	if err != nil {
		t.Fatalf("%v over %s: %v", msg.Question, network, err)
	}
	return resp
}

func question(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, kind) }

// records are the answer's records without their names, sorted.
func records(resp *dns.Msg) string {
	var out []string
	for _, r := range resp.Answer {
		out = append(out, strings.Join(strings.Fields(r.String())[1:], " "))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// eventually asks until the answer is as wanted: the copy follows the store a moment later.
func eventually(t *testing.T, server, name string, kind uint16, want string) {
	t.Helper()
	var got string
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = records(ask(t, server, question(name, kind), "udp")); got == want {
			return
		}
	}
	t.Fatalf("%s %s is\n%s\nwant\n%s", name, dns.TypeToString[kind], got, want)
}

func TestDNS(t *testing.T) {
	w, server := startDNS(t)
	add := func(id, addr string, state registry.State, tags ...string) *registry.Registration {
		return w.register(registry.Instance{
			Service: "Pay", ID: id, Addr: addr, Weight: 3, State: state, Tags: tags, Zone: "eu", Metadata: map[string]string{"k": `v\1`},
		})
	}
	a := add("a", "10.0.0.1:81", registry.StatePassing, "V2")
	add("b", "10.0.0.2:82", registry.StatePassing)
	add("b2", "10.0.0.2:83", registry.StatePassing)
	add("c", "[2001:db8::1]:84", registry.StatePassing, "V2")
	add("d", "host.example:85", registry.StatePassing)
	add("draining", "10.0.0.9:1", registry.StateDraining, "V2")
	add("critical", "10.0.0.8:1", registry.StateCritical)
	add("starting", "10.0.0.7:1", registry.StateStarting)
	for name, answers := range map[string]map[uint16]string{
		"pay.service.coord.": {
			dns.TypeA:    "7 IN A 10.0.0.1\n7 IN A 10.0.0.2",
			dns.TypeAAAA: "7 IN AAAA 2001:db8::1",
			dns.TypeSRV: "7 IN SRV 1 3 81 0a000001.addr.coord.\n7 IN SRV 1 3 82 0a000002.addr.coord.\n" +
				"7 IN SRV 1 3 83 0a000002.addr.coord.\n" +
				"7 IN SRV 1 3 84 20010db8000000000000000000000001.addr.coord.\n7 IN SRV 1 3 85 host.example.",
		},
		"V2.PAY.service.COORD.": {
			dns.TypeA:   "7 IN A 10.0.0.1",
			dns.TypeTXT: `7 IN TXT "id=a" "addr=10.0.0.1:81" "zone=eu" "weight=3" "tag=V2" "meta.k=v\\1"` + "\n" + `7 IN TXT "id=c" "addr=[2001:db8::1]:84" "zone=eu" "weight=3" "tag=V2" "meta.k=v\\1"`,
		},
		"0a000001.addr.coord.":                         {dns.TypeA: "7 IN A 10.0.0.1", dns.TypeAAAA: ""},
		"20010db8000000000000000000000001.addr.coord.": {dns.TypeAAAA: "7 IN AAAA 2001:db8::1"},
		"coord.": {dns.TypeSOA: "7 IN SOA ns.coord. hostmaster.coord. 1 3600 600 86400 7"},
	} {
		for kind, want := range answers {
			eventually(t, server, name, kind, want)
		}
	}
	srv := ask(t, server, question("v2.pay.service.coord.", dns.TypeSRV), "tcp")
	if len(srv.Extra) != 2 || !srv.Authoritative {
		t.Errorf("SRV comes without the addresses of its targets: %v", srv)
	}
	if err := a.Drain(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, server, "pay.service.coord.", dns.TypeA, "7 IN A 10.0.0.2")
}

// Every question gets an answer that says what is wrong with it.
func TestDNSRefuses(t *testing.T) {
	w, server := startDNS(t)
	w.register(registry.Instance{Service: "pay", Addr: "10.0.0.1:81", State: registry.StatePassing})
	w.register(registry.Instance{Service: "down", Addr: "10.0.0.1:81", State: registry.StateCritical})
	eventually(t, server, "pay.service.coord.", dns.TypeA, "7 IN A 10.0.0.1")
	for name, c := range map[string]struct {
		msg     *dns.Msg
		rcode   int
		soa     bool // the authority section says for how long there is nothing
		answers int
	}{
		"no such service":        {question("nobody.service.coord.", dns.TypeA), dns.RcodeNameError, true, 0},
		"no such tag":            {question("v9.pay.service.coord.", dns.TypeA), dns.RcodeNameError, true, 0},
		"none is passing":        {question("down.service.coord.", dns.TypeA), dns.RcodeSuccess, true, 0},
		"wrong type":             {question("pay.service.coord.", dns.TypeMX), dns.RcodeSuccess, true, 0},
		"other family":           {question("pay.service.coord.", dns.TypeAAAA), dns.RcodeSuccess, true, 0},
		"any type":               {question("pay.service.coord.", dns.TypeANY), dns.RcodeSuccess, false, 1},
		"zone transfer":          {question("coord.", dns.TypeAXFR), dns.RcodeRefused, false, 0},
		"another zone":           {question("example.org.", dns.TypeA), dns.RcodeRefused, false, 0},
		"a name that only looks": {question("pay.service.notcoord.", dns.TypeA), dns.RcodeRefused, false, 0},
		"below nothing":          {question("x.nothing.coord.", dns.TypeA), dns.RcodeNameError, true, 0},
		"too many labels":        {question("a.b.pay.service.coord.", dns.TypeA), dns.RcodeNameError, true, 0},
		"no address in hex":      {question("zz.addr.coord.", dns.TypeA), dns.RcodeNameError, true, 0},
		"too short an address":   {question("0a00.addr.coord.", dns.TypeA), dns.RcodeNameError, true, 0},
		"between the names":      {question("service.coord.", dns.TypeA), dns.RcodeSuccess, true, 0},
		"wrong class": {&dns.Msg{
			MsgHdr: dns.MsgHdr{Id: 1}, Question: []dns.Question{{
				Name: "pay.service.coord.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS,
			}},
		},
			dns.RcodeRefused, false, 0},
		"two questions": {&dns.Msg{
			MsgHdr: dns.MsgHdr{Id: 1}, Question: slices.Repeat(question("pay.service.coord.", dns.TypeA).Question, 2),
		},
			dns.RcodeFormatError, false, 0},
		"no question": {&dns.Msg{MsgHdr: dns.MsgHdr{Id: 1}}, dns.RcodeFormatError, false, 0},
		"an update": {&dns.Msg{
			MsgHdr: dns.MsgHdr{Id: 1, Opcode: dns.OpcodeUpdate}, Question: question("pay.service.coord.",
				dns.TypeA).Question,
		}, dns.RcodeNotImplemented, false, 0},
		"a notify": {&dns.Msg{
			MsgHdr: dns.MsgHdr{Id: 1, Opcode: dns.OpcodeNotify}, Question: question("pay.service.coord.",
				dns.TypeSOA).Question,
		}, dns.RcodeNotImplemented, false, 0},
		"EDNS version": {edns(question("pay.service.coord.", dns.TypeA), 1232, 1), dns.RcodeBadVers, false, 0},
	} {
		for _, network := range []string{"udp", "tcp"} {
			resp := ask(t, server, c.msg, network)
			if resp.Rcode != c.rcode || len(resp.Answer) != c.answers || c.soa != (len(resp.Ns) == 1) {
				t.Errorf("%s over %s: %s, %d answers, %d in authority", name, network, dns.RcodeToString[resp.Rcode],
					len(resp.Answer), len(resp.Ns))
			}
		}
	}
	// What is no message at all: cut short, of no size, and longer than any.
	packed, err := question("pay.service.coord.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, raw := range [][]byte{{}, {1}, packed[:11], make([]byte, 60000)} {
		if _, err := conn.Write(raw); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write(packed[:len(packed)-3]); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	_ = conn.SetReadDeadline(time.Now().Add(long))
	for cut := new(dns.Msg); ; { // what has a header is answered; the 60,000 zeros have one
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if err := cut.Unpack(buf[:n]); err != nil || cut.Rcode != dns.RcodeFormatError {
			t.Fatalf("a message that is cut short is answered by %v, %v", cut, err)
		}
		if cut.Id != 0 {
			break
		}
	}
	eventually(t, server, "pay.service.coord.", dns.TypeA, "7 IN A 10.0.0.1") // it goes on
}

func edns(msg *dns.Msg, size uint16, version uint8) *dns.Msg {
	msg.SetEdns0(size, false)
	msg.IsEdns0().SetVersion(version)
	return msg
}

func TestDNSTruncates(t *testing.T) {
	w, server := startDNS(t)
	const instances = 200
	for i := range instances {
		w.register(registry.Instance{Service: "pay", Addr: fmt.Sprintf("10.0.1.%d:80", i)})
	}
	for end := time.Now().Add(long); ; time.Sleep(5 * time.Millisecond) {
		if n := len(ask(t, server, question("pay.service.coord.", dns.TypeA), "tcp").Answer); n == instances {
			break
		} else if time.Now().After(end) {
			t.Fatalf("over TCP %d of %d instances", n, instances)
		}
	}
	for name, c := range map[string]struct {
		msg *dns.Msg
		max int
	}{
		"plain":           {question("pay.service.coord.", dns.TypeA), 512},
		"EDNS":            {edns(question("pay.service.coord.", dns.TypeA), 1232, 0), 1232},
		"EDNS, too large": {edns(question("pay.service.coord.", dns.TypeA), 60000, 0), 1232},
		"EDNS, too small": {edns(question("pay.service.coord.", dns.TypeA), 10, 0), 512},
	} {
		resp, _, err := (&dns.Client{Timeout: 10 * time.Second, UDPSize: 65000}).Exchange(c.msg, server)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Compress = true
		if n := resp.Len(); !resp.Truncated || n > c.max || len(resp.Answer) < 10 {
			t.Errorf("%s: %d bytes of at most %d, %d answers, truncated %v", name, n, c.max, len(resp.Answer),
				resp.Truncated)
		}
	}
}

// When most instances expire at once, the last known set is answered, and who speaks EDNS is told.
func TestDNSAfterMassExpiry(t *testing.T) {
	w, server := startDNS(t)
	lease, err := w.c.Grant(bounded(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	w.sessions = sessionOf(lease.ID)
	for i := range 3 {
		w.register(registry.Instance{Service: "pay", Addr: fmt.Sprintf("10.0.0.%d:80", i+1)})
	}
	const all = "7 IN A 10.0.0.1\n7 IN A 10.0.0.2\n7 IN A 10.0.0.3"
	eventually(t, server, "pay.service.coord.", dns.TypeA, all)
	if _, err := w.c.Revoke(bounded(t), lease.ID); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(long); ; time.Sleep(5 * time.Millisecond) {
		resp := ask(t, server, edns(question("pay.service.coord.", dns.TypeA), 1232, 0), "udp")
		if records(resp) != all {
			t.Fatalf("answered is %s", records(resp))
		}
		if opt := resp.IsEdns0(); len(opt.Option) == 1 &&
			opt.Option[0].(*dns.EDNS0_EDE).InfoCode == dns.ExtendedErrorCodeStaleAnswer {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not said that the answer is stale")
		}
	}
	resp := ask(t, server, question("pay.service.coord.", dns.TypeTXT), "tcp")
	if len(resp.Answer) != 3 || !strings.Contains(resp.Answer[0].String(), `"stale=true"`) {
		t.Errorf("TXT is %v", resp.Answer)
	}
}

// dig, where there is one, reads what we answer.
func TestDig(t *testing.T) {
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skip("dig is not installed: apt-get install bind9-dnsutils")
	}
	w, server := startDNS(t)
	for i := range 100 {
		w.register(registry.Instance{
			Service: "pay", Addr: fmt.Sprintf("10.0.1.%d:80", i), Tags: []string{fmt.Sprint("t", i)},
		})
	}
	eventually(t, server, "t99.pay.service.coord.", dns.TypeA, "7 IN A 10.0.1.99")
	_, port, _ := net.SplitHostPort(server)
	for args, want := range map[string][]string{
		"+short t7.pay.service.coord.":                  {"10.0.1.7"},
		"+short t7.pay.service.coord. SRV":              {"1 1 80 0a000107.addr.coord."},
		"+short t7.pay.service.coord. TXT":              {`"id=10.0.1.7:80"`},
		"+ignore +noedns pay.service.coord.":            {" tc", "status: NOERROR"},
		"pay.service.coord.":                            {"ANSWER: 100"}, // goes on over TCP by itself
		"+tcp nobody.service.coord.":                    {"status: NXDOMAIN", "SOA"},
		"t7.pay.service.coord. MX":                      {"status: NOERROR", "ANSWER: 0", "SOA"},
		"example.org.":                                  {"status: REFUSED"},
		"+edns=1 +noednsnegotiation pay.service.coord.": {"status: BADVERS"},
		"+opcode=UPDATE pay.service.coord.":             {"status: NOTIMP"},
		"-c CH t7.pay.service.coord. TXT":               {"status: REFUSED"},
		"+header-only":                                  {"status: FORMERR"},
	} {
		out, err := exec.Command("dig", append([]string{"@127.0.0.1", "-p", port, "+tries=3", "+timeout=10"},
			strings.Fields(args)...)...).CombinedOutput()
		for _, text := range want {
			if err != nil || !strings.Contains(string(out), text) {
				t.Errorf("dig %s lacks %q: %v\n%s", args, text, err, out)
			}
		}
	}
}

func TestListenDNS(t *testing.T) {
	udp, tcp, err := coordregistry.ListenDNS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	defer tcp.Close()
	if udp.LocalAddr().String() != tcp.Addr().String() {
		t.Errorf("UDP is at %s, TCP at %s", udp.LocalAddr(), tcp.Addr())
	}
	if _, _, err := coordregistry.ListenDNS(tcp.Addr().String()); err == nil {
		t.Error("a port was opened twice")
	}
}

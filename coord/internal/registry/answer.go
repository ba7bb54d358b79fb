package registry

import (
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/coord-dev/coord/proto/instances"
)

// Names of the zone.
const (
	zone    = "coord."
	service = "service"
	addr    = "addr"
)

// answer fills the answer to a message with one question. own is its OPT record, nil if it has none.
func (d *DNS) answer(resp *dns.Msg, own *dns.OPT) {
	if len(resp.Question) != 1 { // the header announced one, and nothing came behind it
		resp.Rcode = dns.RcodeFormatError
		return
	}
	q := resp.Question[0]
	name := lower(q.Name)
	switch {
	case resp.Opcode != dns.OpcodeQuery:
		resp.Rcode = dns.RcodeNotImplemented
		return
	case q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY,
		!dns.IsSubDomain(zone, name),
		q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		resp.Rcode = dns.RcodeRefused
		return
	}
	select {
	case <-d.ready:
	default:
		resp.Rcode = dns.RcodeServerFailure
		return
	}
	resp.Authoritative = true
	labels := dns.SplitDomainName(strings.TrimSuffix(name, zone))
	slices.Reverse(labels) // the ones next to the root first
	for i := range labels {
		labels[i] = lower(unescape(labels[i]))
	}
	exists := true
	switch {
	case len(labels) == 0:
		if q.Qtype == dns.TypeSOA {
			resp.Answer = append(resp.Answer, d.soa())
		}
	case len(labels) == 1 && (labels[0] == service || labels[0] == addr):
		// Nothing stands at these names, but below them.
	case len(labels) == 2 && labels[0] == addr:
		exists = d.answerAddr(resp, q, labels[1])
	case len(labels) == 2 && labels[0] == service:
		exists = d.answerService(resp, own, labels[1], "")
	case len(labels) == 3 && labels[0] == service:
		exists = d.answerService(resp, own, labels[1], labels[2])
	default:
		exists = false
	}
	if !exists {
		resp.Rcode = dns.RcodeNameError
	}
	if len(resp.Answer) == 0 {
		resp.Ns = append(resp.Ns, d.soa()) // says for how long there is nothing
	}
}

// answerAddr answers for an address that is in its name.
func (d *DNS) answerAddr(resp *dns.Msg, q dns.Question, label string) (exists bool) {
	raw, err := hex.DecodeString(label)
	ip, ok := netip.AddrFromSlice(raw)
	if err != nil || !ok {
		return false
	}
	if r := d.address(q.Name, ip); q.Qtype == r.Header().Rrtype {
		resp.Answer = append(resp.Answer, r)
	}
	return true
}

// answerService answers for the instances of a service, those with a tag if it is not empty.
func (d *DNS) answerService(resp *dns.Msg, own *dns.OPT, name, tag string) (exists bool) {
	found, exists := d.find(name, tag)
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	q := resp.Question[0]
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		d.addAddresses(resp, q, found)
	case dns.TypeSRV:
		d.addServers(resp, q, found)
	case dns.TypeTXT:
		for _, in := range found[:min(len(found), maxRecords)] {
			resp.Answer = append(resp.Answer, &dns.TXT{Hdr: d.header(q.Name, dns.TypeTXT), Txt: texts(in)})
		}
	case dns.TypeANY: // RFC 8482: not all there is, but an answer
		resp.Answer = append(resp.Answer, &dns.HINFO{Hdr: d.header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"})
	}
	if own != nil && len(resp.Answer) > 0 &&
		slices.ContainsFunc(found, func(in *instances.Instance) bool { return in.Stale }) {
		own.Option = append(own.Option, &dns.EDNS0_EDE{
			InfoCode: dns.ExtendedErrorCodeStaleAnswer, ExtraText: "most instances expired at once",
		})
	}
	return exists
}

// find returns the passing instances; exists says whether there are any in whatever state, or were a short while ago.
func (d *DNS) find(name, tag string) (found []*instances.Instance, exists bool) {
	d.mirror.mu.RLock()
	defer d.mirror.mu.RUnlock()
	for service := range d.names[name] {
		for _, in := range d.mirror.set.Service(service) {
			if tag != "" && !slices.ContainsFunc(in.Tags, func(t string) bool { return lower(t) == tag }) {
				continue
			}
			exists = true
			if in.State == instances.Passing {
				found = append(found, in)
			}
		}
		exists = exists || tag == ""
	}
	return found, exists
}

func (d *DNS) addAddresses(resp *dns.Msg, q dns.Question, found []*instances.Instance) {
	have := map[netip.Addr]bool{}
	for _, in := range found {
		host, _ := portOf(in.Addr)
		ip, err := netip.ParseAddr(host)
		if err != nil || have[ip.Unmap()] || len(resp.Answer) == maxRecords {
			continue
		}
		have[ip.Unmap()] = true
		if r := d.address(q.Name, ip); r.Header().Rrtype == q.Qtype {
			resp.Answer = append(resp.Answer, r)
		}
	}
}

func (d *DNS) addServers(resp *dns.Msg, q dns.Question, found []*instances.Instance) {
	have := map[string]bool{}
	for _, in := range found[:min(len(found), maxRecords)] {
		host, port := portOf(in.Addr)
		target := dns.Fqdn(host)
		if ip, err := netip.ParseAddr(host); err == nil {
			target = hex.EncodeToString(ip.Unmap().AsSlice()) + "." + addr + "." + zone
			if !have[target] {
				have[target] = true
				resp.Extra = append(resp.Extra, d.address(target, ip))
			}
		} else if _, ok := dns.IsDomainName(target); !ok {
			continue // not a name that DNS could tell
		}
		resp.Answer = append(resp.Answer, &dns.SRV{
			Hdr: d.header(q.Name, dns.TypeSRV), Priority: 1, Weight: uint16(in.Weight), Port: port, Target: target,
		})
	}
}

// address is the A or AAAA record of an address.
func (d *DNS) address(name string, ip netip.Addr) dns.RR {
	if ip = ip.Unmap(); ip.Is4() {
		return &dns.A{Hdr: d.header(name, dns.TypeA), A: ip.AsSlice()}
	}
	return &dns.AAAA{Hdr: d.header(name, dns.TypeAAAA), AAAA: ip.AsSlice()}
}

// texts are what else there is to say of an instance.
func texts(in *instances.Instance) []string {
	all := slices.Concat(text("id", in.ID), text("addr", in.Addr), text("zone", in.Zone), text("version", in.Version),
		text("weight", strconv.Itoa(in.Weight)))
	for _, tag := range in.Tags {
		all = append(all, text("tag", tag)...)
	}
	for _, k := range slices.Sorted(maps.Keys(in.Metadata)) {
		all = append(all, text("meta."+k, in.Metadata[k])...)
	}
	if in.Stale {
		all = append(all, "stale=true")
	}
	for i := range all {
		all[i] = escape(all[i])
	}
	return all
}

func (d *DNS) header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: d.ttl}
}

func (d *DNS) soa() dns.RR {
	return &dns.SOA{
		Hdr: d.header(zone, dns.TypeSOA), Ns: "ns." + zone, Mbox: "hostmaster." + zone,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: d.ttl,
	}
}

// lower is the text as DNS compares it.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// unescape undoes the way in which the library writes bytes that are no letters, \. and \065.
func unescape(label string) string {
	var b strings.Builder
	for i := 0; i < len(label); i++ {
		if label[i] != '\\' || i+1 == len(label) {
			b.WriteByte(label[i])
			continue
		}
		if n, err := strconv.ParseUint(label[i+1:min(i+4, len(label))], 10, 8); err == nil && i+3 < len(label) {
			b.WriteByte(byte(n))
			i += 3
			continue
		}
		i++
		b.WriteByte(label[i])
	}
	return b.String()
}

// escape is how the library wants to have text.
func escape(s string) string { return strings.ReplaceAll(s, `\`, `\\`) }

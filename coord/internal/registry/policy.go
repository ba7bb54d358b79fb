package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/coord-dev/coord/proto/instances"
)

// ErrProbeDenied: a probe's target is an address that no client may make a member connect to.
var ErrProbeDenied = errors.New("probes of this address are denied: a member's --probe-allow permits it")

// alwaysDenied are addresses behind which no service stands that clients could mean, or that give credentials to
// whoever connects from the machine.
var alwaysDenied = prefixes(
	"0.0.0.0/8", "::/128", // unspecified: the machine itself
	"169.254.0.0/16", "fe80::/10", // link-local, with the metadata services of most clouds
	// and of the others
	"fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
	"224.0.0.0/4", "ff00::/8", // multicast
	"240.0.0.0/4", // reserved, and broadcast
)

// loopback is the member's own machine, which is not the instance's unless all run on one.
var loopback = prefixes("127.0.0.0/8", "::1/128")

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// ParsePrefix reads a range of addresses, 10.0.0.0/8, or one address.
func ParsePrefix(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a range of addresses such as 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

// Policy says which addresses probes may connect to. The longest range that holds an address decides; where one is both
// denied and allowed, it is allowed. What no range holds is allowed.
type Policy struct{ deny, allow []netip.Prefix }

// NewPolicy denies deny beside what is always denied, and this machine's loopback addresses unless local.
func NewPolicy(deny, allow []netip.Prefix, local bool) *Policy {
	p := &Policy{deny: slices.Concat(alwaysDenied, deny), allow: allow}
	if !local {
		p.deny = slices.Concat(p.deny, loopback)
	}
	return p
}

// Check refuses an address. One that carries an IPv4 address, in whatever way, must be allowed as that, too.
func (p *Policy) Check(ip netip.Addr) error {
	ip = ip.WithZone("").Unmap()
	denied := longest(p.deny, ip)
	if denied >= 0 && longest(p.allow, ip) < denied {
		return fmt.Errorf("%w: %s lies in %s", ErrProbeDenied, ip, netip.PrefixFrom(ip, denied).Masked())
	}
	if inner, ok := embedded(ip); ok {
		return p.Check(inner)
	}
	return nil
}

func longest(ranges []netip.Prefix, ip netip.Addr) int {
	bits := -1
	for _, r := range ranges {
		if r.Contains(ip) {
			bits = max(bits, r.Bits())
		}
	}
	return bits
}

// embedded is the IPv4 address to which a translator or a tunnel would pass on what is sent to ip.
func embedded(ip netip.Addr) (netip.Addr, bool) {
	if !ip.Is6() {
		return netip.Addr{}, false
	}
	b := ip.As16()
	four := func(at int) (netip.Addr, bool) { return netip.AddrFrom4([4]byte(b[at : at+4])), true }
	switch first := binary.BigEndian.Uint32(b[:]); {
	case first == 0x0064ff9b: // NAT64
		return four(12)
	case first>>16 == 0x2002: // 6to4
		return four(2)
	case first == 0 && binary.BigEndian.Uint64(b[4:]) == 0 && !ip.IsLoopback() && !ip.IsUnspecified():
		// IPv4-compatible
		return four(12)
	}
	return netip.Addr{}, false
}

// CheckTarget refuses a probe whose target is an address, as far as it can be told without looking up a name: which
// address that gives is checked whenever it is connected to.
func (p *Policy) CheckTarget(probe *instances.Probe) error {
	ip, err := netip.ParseAddr(strings.Trim(hostOf(probe), "[]"))
	if err != nil {
		return nil
	}
	return p.Check(ip)
}

// hostOf is the host of a probe's target, which is a valid one.
func hostOf(p *instances.Probe) string {
	target := p.Target
	if _, rest, ok := strings.Cut(target, "://"); ok && p.Kind == instances.ProbeHTTP {
		target = rest
	}
	target, _, _ = strings.Cut(target, "/")
	if at := strings.LastIndexByte(target, '@'); at >= 0 {
		target = target[at+1:]
	}
	if host, _, err := net.SplitHostPort(target); err == nil {
		return host
	}
	return target
}

// dialer connects to what the policy allows. It is asked with the address itself, behind any lookup of a name and for
// each attempt, so that no answer of a name server gets around it.
func (p *Policy) dialer() *net.Dialer {
	return &net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %q is no address", ErrProbeDenied, address)
		}
		return p.Check(to.Addr())
	}}
}

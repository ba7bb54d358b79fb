package instances

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// Errors of Validate; each comes with the values in question.
var (
	// ErrNoAddress: an instance has no address that could be connected to, host:port with a port above 0.
	ErrNoAddress = errors.New("the instance has no usable address")
	// ErrBadName: the name of a service or an id is empty, too long, or has characters that cannot be shown.
	ErrBadName = layout.ErrBadName
	// ErrBadWeight: a weight is below 1 or above MaxWeight.
	ErrBadWeight = errors.New("bad weight")
	// ErrBadState: a state is none of the four.
	ErrBadState = errors.New("bad state")
	// ErrBadProbe: a probe has no usable target, or times out of range.
	ErrBadProbe = errors.New("bad probe")
	// ErrTooLarge: the record of an instance is larger than MaxRecord.
	ErrTooLarge = errors.New("the instance's record is too large")
)

// Limits of an instance.
const (
	MaxWeight = math.MaxUint16
	MaxRecord = 64 << 10 // bytes
	// MaxStored is that of a record with the value of its mirror, of which JSON can make six times as much.
	MaxStored = 8 * MaxRecord

	MinProbeInterval = 100 * time.Millisecond
	MaxProbeTimeout  = time.Minute
)

// State says whether an instance takes requests. A greater one is worse.
type State int

// The states of an instance.
const (
	Passing  State = 1 + iota // it takes requests
	Starting                  // not yet
	Draining                  // no new ones: it will leave
	Critical                  // it cannot
)

var stateNames = [...]string{"unspecified", "passing", "starting", "draining", "critical"}

// String is the state's name, in lower case.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "state " + strconv.Itoa(int(s))
	}
	return stateNames[s]
}

// MarshalText makes a state its name in JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// expected reports whether an instance that vanishes in this state was expected to.
func (s State) expected() bool { return s >= Draining }

// Instance is one instance of a service. Slices and maps of an Instance that a Set gives are shared: nobody may change
// them.
type Instance struct {
	Service string `json:"service"`
	// ID tells the instance from the others of its service. Default: Addr.
	ID string `json:"id"`
	// Addr is where it serves, host:port.
	Addr string `json:"addr"`
	// Zone is where it is, for clients that prefer what is near.
	Zone string `json:"zone,omitempty"`
	// Weight is the share of requests it should get, relative to the others: 1 to MaxWeight. Default 1.
	Weight   int               `json:"weight"`
	Tags     []string          `json:"tags,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Version  string            `json:"version,omitempty"`
	// State is the worst of what the process says of itself, what the cluster's probe says, and what an operator wants.
	// In a registration: what the process says, default Passing.
	State State `json:"state"`
	// Load is the payload of the last heartbeat.
	Load []byte `json:"load,omitempty"`
	// Probe, if set, asks the cluster to see whether the instance answers.
	Probe *Probe `json:"probe,omitempty"`
	// Mirror says that it stands in the layout of etcd's naming/endpoints too, as long as it is passing. No lock or
	// election has the service's name then.
	Mirror bool `json:"mirror,omitempty"`

	// The rest is filled in by who reads, and has no meaning in a registration.

	// Registered and Heartbeat are when it registered and gave the last heartbeat, by the clock of its process.
	Registered time.Time `json:"registered,omitzero"`
	Heartbeat  time.Time `json:"heartbeat,omitzero"`
	// Detail is why it is not passing, as far as the state does not come from the process itself.
	Detail string `json:"detail,omitempty"`
	// Stale: it has expired together with too many others, and is kept for now.
	Stale bool `json:"stale,omitempty"`
	// Foreign: it was found in the layout of etcd's naming/endpoints alone.
	Foreign bool `json:"foreign,omitempty"`
	// Lease is the one the instance lives on, 0 if none.
	Lease int64 `json:"lease,omitempty"`
	// Revision is that of the last change of any record of the instance, Written that of its process's own.
	Revision int64 `json:"revision"`
	Written  int64 `json:"-"`
	// Probed is what the cluster's probe of it said last; 0: nothing.
	Probed State `json:"-"`

	endpointOf string // of a foreign one: the id of the instance whose endpoint it is
}

// ProbeKind says what a probe does.
type ProbeKind int

// The kinds of probes; registry.proto says what each of them takes for a success.
const (
	ProbeTCP ProbeKind = 1 + iota
	ProbeHTTP
	ProbeGRPC
)

var probeNames = [...]string{"unspecified", "tcp", "http", "grpc"}

// String is the kind's name, in lower case.
func (k ProbeKind) String() string {
	if k < 0 || int(k) >= len(probeNames) {
		return "probe " + strconv.Itoa(int(k))
	}
	return probeNames[k]
}

// MarshalText makes a kind its name in JSON.
func (k ProbeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Probe says how the cluster sees whether an instance answers.
type Probe struct {
	Kind ProbeKind `json:"kind"`
	// Target is host:port for ProbeTCP, a URL for ProbeHTTP, host:port or host:port/SERVICE for ProbeGRPC. Default: the
	// instance's address; ProbeHTTP has none.
	Target string `json:"target,omitempty"`
	// Interval is the time from one probe to the next, at least MinProbeInterval. Default 10 s.
	Interval time.Duration `json:"interval"`
	// Timeout is when a probe has failed, at most MaxProbeTimeout. Default 2 s.
	Timeout time.Duration `json:"timeout"`
	// Failures in a row make a passing instance critical, Successes a critical one passing. Default 3 and 2.
	Failures  int `json:"failures"`
	Successes int `json:"successes"`
}

// EnsureDefaults fills what is zero.
func (in *Instance) EnsureDefaults() {
	if in.ID == "" {
		in.ID = in.Addr
	}
	if in.Weight == 0 {
		in.Weight = 1
	}
	if in.State == 0 {
		in.State = Passing
	}
	if in.Probe != nil {
		probe := *in.Probe // the caller's stays as it is
		probe.ensureDefaults(in.Addr)
		in.Probe = &probe
	}
}

func (p *Probe) ensureDefaults(addr string) {
	if p.Target == "" && p.Kind != ProbeHTTP {
		p.Target = addr
	}
	if p.Interval == 0 {
		p.Interval = 10 * time.Second
	}
	if p.Timeout == 0 {
		p.Timeout = 2 * time.Second
	}
	if p.Failures == 0 {
		p.Failures = 3
	}
	if p.Successes == 0 {
		p.Successes = 2
	}
}

// Validate reports the first thing that is wrong with an instance whose defaults are filled.
func (in *Instance) Validate() error {
	if err := in.check(); err != nil {
		return err
	}
	if n := len(in.Encode()); n > MaxRecord {
		return fmt.Errorf("instance %s of service %s: %w: %d bytes, at most %d", in.ID, in.Service, ErrTooLarge, n,
			MaxRecord)
	}
	return nil
}

func (in *Instance) check() error {
	if err := layout.CheckService(in.Service); err != nil {
		return err
	}
	if err := checkAddr(in.Addr); err != nil {
		return fmt.Errorf("service %s: %w", in.Service, err)
	}
	if err := in.checkRest(); err != nil {
		return fmt.Errorf("instance %s of service %s: %w", in.ID, in.Service, err)
	}
	return nil
}

func (in *Instance) checkRest() error {
	if err := layout.CheckInstance(in.ID); err != nil {
		return err
	}
	if in.Weight < 1 || in.Weight > MaxWeight {
		return fmt.Errorf("%w: %d is not between 1 and %d", ErrBadWeight, in.Weight, MaxWeight)
	}
	if in.State < Passing || in.State > Critical {
		return fmt.Errorf("%w: %s", ErrBadState, in.State)
	}
	for _, text := range append([]string{in.Zone, in.Version}, in.Tags...) {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%w: %q is not UTF-8", ErrBadName, text)
		}
	}
	for k, v := range in.Metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("%w: metadata %q is not UTF-8", ErrBadName, k)
		}
	}
	if in.Probe != nil {
		return in.Probe.check()
	}
	return nil
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return fmt.Errorf("%w: %q is not host:port", ErrNoAddress, addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%w: %q has no port between 1 and 65535", ErrNoAddress, addr)
	}
	return nil
}

func (p *Probe) check() error {
	switch p.Kind {
	case ProbeTCP, ProbeGRPC:
		hostPort := p.Target
		if p.Kind == ProbeGRPC {
			hostPort, _, _ = strings.Cut(p.Target, "/")
		}
		if err := checkAddr(hostPort); err != nil {
			return fmt.Errorf("%w: a %s probe of %q, which is not host:port", ErrBadProbe, p.Kind, p.Target)
		}
	case ProbeHTTP:
		u, err := url.Parse(p.Target)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("%w: an http probe of %q, which is no http:// or https:// URL", ErrBadProbe, p.Target)
		}
	default:
		return fmt.Errorf("%w: unknown kind %d", ErrBadProbe, p.Kind)
	}
	switch {
	case p.Interval < MinProbeInterval:
		return fmt.Errorf("%w: an interval of %v, at least %v", ErrBadProbe, p.Interval, MinProbeInterval)
	case p.Timeout < time.Millisecond || p.Timeout > MaxProbeTimeout:
		return fmt.Errorf("%w: a timeout of %v, between 1ms and %v", ErrBadProbe, p.Timeout, MaxProbeTimeout)
	case p.Failures < 1 || p.Successes < 1 || p.Failures > math.MaxInt32 || p.Successes > math.MaxInt32:
		return fmt.Errorf("%w: %d failures and %d successes, each at least 1", ErrBadProbe, p.Failures, p.Successes)
	}
	return nil
}

// HasTag reports whether the instance has the tag.
func (in *Instance) HasTag(tag string) bool { return slices.Contains(in.Tags, tag) }

// Same reports whether a reader of two states of one instance sees no difference.
func (in *Instance) Same(other *Instance) bool {
	return in.Revision == other.Revision && in.Stale == other.Stale && in.State == other.State &&
		in.Foreign == other.Foreign &&
		in.Lease == other.Lease
}

// Encode is the value of the instance's key, but for that of its mirror in it.
func (in *Instance) Encode() []byte { return marshal(RecordOf(in)) }

// RecordOf is the instance as its process says it: a function, so that the Go API of the registry has no message in it.
func RecordOf(in *Instance) *coordv1.ServiceInstance {
	record := &coordv1.ServiceInstance{
		Service: in.Service, Id: in.ID, Addr: in.Addr, Zone: in.Zone, Weight: uint32(in.Weight), Tags: in.Tags,
		Metadata: in.Metadata, Version: in.Version, State: coordv1.ServiceState(in.State), Load: in.Load,
		Mirror:           in.Mirror,
		RegisteredUnixMs: unixMS(in.Registered), HeartbeatUnixMs: unixMS(in.Heartbeat),
	}
	if p := in.Probe; p != nil {
		record.Probe = &coordv1.ServiceProbe{
			Kind: coordv1.ServiceProbe_Kind(p.Kind), Target: p.Target, IntervalMs: p.Interval.Milliseconds(),
			TimeoutMs: p.Timeout.Milliseconds(), Failures: int32(p.Failures), Successes: int32(p.Successes),
		}
	}
	return record
}

// Decode reads the value of an instance's key. The error says what is wrong with it.
func Decode(value []byte) (*Instance, error) {
	record := &coordv1.ServiceInstance{}
	if len(value) > MaxStored {
		return nil, ErrTooLarge
	}
	if err := unmarshal(value, record); err != nil {
		return nil, err
	}
	in := &Instance{
		Service: record.Service, ID: record.Id, Addr: record.Addr, Zone: record.Zone, Weight: int(record.Weight),
		Tags: record.Tags, Metadata: record.Metadata, Version: record.Version, State: State(record.State),
		Load:   record.Load,
		Mirror: record.Mirror, Registered: fromUnixMS(record.RegisteredUnixMs),
		Heartbeat: fromUnixMS(record.HeartbeatUnixMs),
	}
	if p := record.Probe; p != nil {
		in.Probe = &Probe{
			Kind: ProbeKind(p.Kind), Target: p.Target, Interval: time.Duration(p.IntervalMs) * time.Millisecond,
			Timeout: time.Duration(p.TimeoutMs) * time.Millisecond, Failures: int(p.Failures),
			Successes: int(p.Successes),
		}
	}
	in.EnsureDefaults()
	return in, in.check()
}

// DrainOrder is the value of the key that orders an instance to be drained. by says who wants that, for people.
func DrainOrder(by string, at time.Time) []byte {
	return marshal(&coordv1.ServiceOrder{
		State: coordv1.ServiceState_SERVICE_STATE_DRAINING, By: strings.ToValidUTF8(by, "?"),
		TimeUnixMs: at.UnixMilli(),
	})
}

// ProbedValue is the value of the key that says what a probe found of the instance on a lease. A detail is cut to 512
// bytes.
func ProbedValue(state State, detail string, since time.Time, lease int64) []byte {
	return marshal(&coordv1.ServiceProbed{
		State: coordv1.ServiceState(state), Detail: strings.ToValidUTF8(detail[:min(len(detail), 512)], "?"),
		SinceUnixMs: since.UnixMilli(), Lease: lease,
	})
}

func unixMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromUnixMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// Clone is a copy that shares nothing.
func (in *Instance) Clone() *Instance {
	c := *in
	c.Tags, c.Metadata, c.Load = slices.Clone(in.Tags), maps.Clone(in.Metadata), bytes.Clone(in.Load)
	if in.Probe != nil {
		probe := *in.Probe
		c.Probe = &probe
	}
	return &c
}

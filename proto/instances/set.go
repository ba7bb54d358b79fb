package instances

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// Limits say when instances that expire are kept. Zero values stand for the defaults.
type Limits struct {
	// MaxLoss is the share of a service's instances that may expire at once, 0 to 1. Default 0.5; 1: none is ever kept.
	MaxLoss float64
	// Window is how close together is at once. Default 10 s.
	Window time.Duration
	// KeepStale is for how long instances are kept. Default 5 min.
	KeepStale time.Duration
}

// EnsureDefaults fills what is zero.
func (l *Limits) EnsureDefaults() {
	if l.MaxLoss == 0 {
		l.MaxLoss = 0.5
	}
	if l.Window == 0 {
		l.Window = 10 * time.Second
	}
	if l.KeepStale == 0 {
		l.KeepStale = 5 * time.Minute
	}
}

// Name names an instance in a Set.
type Name struct {
	Service, ID string
	// Foreign: it stands in the layout of etcd's naming/endpoints; ID is the rest of its key.
	Foreign bool
}

// Set is the instances of services; see the package doc. Not safe for concurrent use. The times given to it must not go
// back.
type Set struct {
	limits  Limits
	foreign string // the service whose keys in etcd's layout belong to the set, too
	groups  map[string]*group
	touched map[Name]struct{}
}

// group is the instances of one service.
type group struct {
	members   map[Name]*member
	gone      map[Name]lost // expired, while protected or within the window
	alive     int           // members that would be missed
	protected time.Time     // since when the gone are kept; zero: they are not
	expired   bool          // something did, and review has not been called since
}

// member is what stands in the keys of one instance.
type member struct {
	instance *Instance // as its process says; nil if the key is missing or unreadable
	probed   *coordv1.ServiceProbed
	order    *coordv1.ServiceOrder

	revisions struct{ instance, probed, order int64 }
	shown     *Instance // what all of it amounts to
}

type lost struct {
	instance *Instance // marked Stale
	at       time.Time
}

// NewSet returns an empty set. foreign, if not empty, is a service whose keys in the layout of etcd's naming/endpoints
// will be given to it, too.
func NewSet(limits Limits, foreign string) *Set {
	limits.EnsureDefaults()
	return &Set{limits: limits, foreign: foreign, groups: map[string]*group{}, touched: map[Name]struct{}{}}
}

// record is one key, taken apart.
type record struct {
	Name
	part layout.Part // layout.Endpoint: it is not below the registry's keys, but in etcd's layout
}

func (s *Set) parse(key string) (record, bool) {
	if strings.HasPrefix(key, layout.Service.Dir()) {
		p, ok := layout.Parse(key)
		return record{Name{Service: p.Name, ID: p.ID}, p.Part}, ok && p.Part != layout.Other
	}
	rest, ok := strings.CutPrefix(key, layout.EndpointPrefix(s.foreign))
	return record{Name{s.foreign, rest, true}, layout.Endpoint}, ok && s.foreign != ""
}

// Apply takes events in order. Keys that are not of the registry are passed over.
func (s *Set) Apply(now time.Time, events []*mvccpb.Event) {
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
			n++
		}
		s.applyRevision(now, events[:n])
		events = events[n:]
	}
	s.review(now)
}

// applyRevision takes the events of one revision. Whether an instance that vanishes was expected to is what its records
// said before any of them vanished with it, and what an order says that came with it: so that is the order of events.
func (s *Set) applyRevision(now time.Time, events []*mvccpb.Event) {
	for turn := range 3 {
		for _, ev := range events {
			r, ok := s.parse(string(ev.Kv.Key))
			if !ok || r.turn(ev.Type) != turn {
				continue
			}
			if ev.Type == mvccpb.Event_DELETE {
				s.remove(now, r)
			} else {
				s.put(r, ev.Kv)
			}
		}
	}
}

func (r record) turn(t mvccpb.Event_EventType) int {
	switch {
	case r.part == layout.Order && t == mvccpb.Event_PUT:
		return 0
	case (r.part == layout.Instance || r.part == layout.Endpoint) && t == mvccpb.Event_DELETE:
		return 1
	}
	return 2
}

// Replace takes the whole state, as it was read. What is missing has vanished.
func (s *Set) Replace(now time.Time, kvs []*mvccpb.KeyValue) {
	have := make(map[record]bool, len(kvs))
	for _, kv := range kvs {
		if r, ok := s.parse(string(kv.Key)); ok {
			have[r] = true
			if r.part == layout.Order {
				s.put(r, kv)
			}
		}
	}
	for service, g := range s.groups {
		for name := range g.members {
			first, others := layout.Instance, []layout.Part{layout.Order, layout.Probe}
			if name.Foreign {
				first, others = layout.Endpoint, nil
			}
			if !have[record{name, first}] {
				s.remove(now, record{name, first})
			}
			for _, k := range others {
				if !have[record{name, k}] {
					s.remove(now, record{Name{Service: service, ID: name.ID}, k})
				}
			}
		}
	}
	for _, kv := range kvs {
		if r, ok := s.parse(string(kv.Key)); ok {
			s.put(r, kv)
		}
	}
	s.review(now)
}

func (s *Set) group(service string) *group {
	g := s.groups[service]
	if g == nil {
		g = &group{members: map[Name]*member{}, gone: map[Name]lost{}}
		s.groups[service] = g
	}
	return g
}

// put takes the value of a key. One that cannot be read counts as none.
func (s *Set) put(r record, kv *mvccpb.KeyValue) {
	g := s.group(r.Service)
	m := g.members[r.Name]
	if m == nil {
		m = &member{}
		g.members[r.Name] = m
	}
	if m.revision(r.part) == kv.ModRevision {
		return // read again
	}
	switch r.part {
	case layout.Instance, layout.Endpoint:
		if m.instance = decode(r, kv.Value); m.instance != nil {
			m.instance.Lease = kv.Lease
			delete(g.gone, r.Name)
		}
		m.revisions.instance = kv.ModRevision
	case layout.Order:
		if m.order = new(coordv1.ServiceOrder); unmarshal(kv.Value, m.order) != nil {
			m.order = nil
		}
		m.revisions.order = kv.ModRevision
	case layout.Probe:
		if m.probed = new(coordv1.ServiceProbed); unmarshal(kv.Value, m.probed) != nil {
			m.probed = nil
		}
		m.revisions.probed = kv.ModRevision
	}
	s.changed(g, r.Name, m)
}

// decode returns nil for a value that is not one of this key.
func decode(r record, value []byte) *Instance {
	var in *Instance
	var err error
	if r.Foreign {
		in, err = decodeEndpoint(r.Service, r.ID, value)
	} else {
		in, err = Decode(value)
	}
	if err != nil || in.Service != r.Service || in.ID != r.ID {
		return nil
	}
	return in
}

func (s *Set) remove(now time.Time, r record) {
	g := s.groups[r.Service]
	if g == nil || g.members[r.Name] == nil {
		return
	}
	m := g.members[r.Name]
	switch r.part {
	case layout.Instance, layout.Endpoint:
		if m.missed() {
			stale := *m.shown
			stale.Stale = true
			g.gone[r.Name], g.expired = lost{&stale, now}, true
		}
		m.instance, m.revisions.instance = nil, 0
	case layout.Order:
		m.order, m.revisions.order = nil, 0
	case layout.Probe:
		m.probed, m.revisions.probed = nil, 0
	}
	s.changed(g, r.Name, m)
}

// changed notes that something of a member did.
func (s *Set) changed(g *group, name Name, m *member) {
	s.touched[name] = struct{}{}
	if m.missed() {
		g.alive--
	}
	m.show()
	if m.missed() {
		g.alive++
	}
	if m.revisions.instance == 0 && m.revisions.order == 0 && m.revisions.probed == 0 {
		delete(g.members, name)
	}
}

// revision is that of the record that was taken last, 0 if there is none.
func (m *member) revision(part layout.Part) int64 {
	switch part {
	case layout.Order:
		return m.revisions.order
	case layout.Probe:
		return m.revisions.probed
	}
	return m.revisions.instance
}

// missed reports whether the member would be, should it expire. A mirror is not: its instance is.
func (m *member) missed() bool {
	return m.shown != nil && !m.shown.State.expected() && m.shown.endpointOf == ""
}

// show puts together what the records amount to.
func (m *member) show() {
	if m.instance == nil {
		m.shown = nil
		return
	}
	in := *m.instance
	in.Revision, in.Written = m.revisions.instance, m.revisions.instance
	if in.Probe != nil {
		state, detail := Starting, "not probed yet"
		if m.probed != nil && m.probed.Lease == in.Lease {
			in.Probed = State(m.probed.State)
			state, detail = in.Probed, m.probed.Detail
			in.Revision = max(in.Revision, m.revisions.probed)
		}
		in.worsen(state, detail)
	}
	if m.order != nil && m.order.State == coordv1.ServiceState_SERVICE_STATE_DRAINING {
		in.Revision = max(in.Revision, m.revisions.order)
		in.worsen(Draining, fmt.Sprintf("drained by %s", m.order.By))
	}
	m.shown = &in
}

func (in *Instance) worsen(state State, detail string) {
	if state > in.State {
		in.State, in.Detail = state, detail
	}
}

// review decides which of those that expired are kept.
func (s *Set) review(now time.Time) {
	for service, g := range s.groups {
		if len(g.gone) > 0 {
			s.reviewGroup(now, g)
		}
		if len(g.members) == 0 && len(g.gone) == 0 {
			delete(s.groups, service)
		}
	}
}

func (s *Set) reviewGroup(now time.Time, g *group) {
	expired := g.expired
	g.expired = false
	if g.protected.IsZero() {
		maps.DeleteFunc(g.gone, func(_ Name, l lost) bool { return now.Sub(l.at) >= s.limits.Window })
		if expired && s.tooMany(g) {
			g.protected = now
			s.touch(g.gone)
		}
		return
	}
	if !s.tooMany(g) || now.Sub(g.protected) >= s.limits.KeepStale {
		s.touch(g.gone)
		clear(g.gone)
		g.protected = time.Time{}
	}
}

// tooMany reports whether more of the group are gone than may be.
func (s *Set) tooMany(g *group) bool {
	return float64(len(g.gone)) > s.limits.MaxLoss*float64(len(g.gone)+g.alive)
}

func (s *Set) touch(gone map[Name]lost) {
	for name := range gone {
		s.touched[name] = struct{}{}
	}
}

// Deadline is when Review has to be called, if nothing happens before; false: not at all.
func (s *Set) Deadline() (at time.Time, ok bool) {
	for _, g := range s.groups {
		if g.protected.IsZero() {
			continue
		}
		if end := g.protected.Add(s.limits.KeepStale); !ok || end.Before(at) {
			at, ok = end, true
		}
	}
	return at, ok
}

// Review lets go of what has been kept for long enough.
func (s *Set) Review(now time.Time) { s.review(now) }

// Touched returns what may have changed since the last call, sorted.
func (s *Set) Touched() []Name {
	names := slices.SortedFunc(maps.Keys(s.touched), Name.Compare)
	clear(s.touched)
	return names
}

// Compare orders names by service, then by id, then what is foreign last. It is a total order.
func (n Name) Compare(other Name) int {
	if c := strings.Compare(n.Service, other.Service); c != 0 {
		return c
	}
	if c := strings.Compare(n.ID, other.ID); c != 0 {
		return c
	}
	switch {
	case n.Foreign == other.Foreign:
		return 0
	case other.Foreign:
		return -1
	}
	return 1
}

// Get returns an instance, nil if there is none. It is shared.
func (s *Set) Get(name Name) *Instance {
	g := s.groups[name.Service]
	if g == nil {
		return nil
	}
	if m := g.members[name]; m != nil && m.shown != nil {
		return m.shown
	}
	if l, ok := g.gone[name]; ok && !g.protected.IsZero() {
		return l.instance
	}
	return nil
}

// Service returns the instances of a service in no order. They are shared.
func (s *Set) Service(service string) []*Instance {
	g := s.groups[service]
	if g == nil {
		return nil
	}
	all := make([]*Instance, 0, len(g.members)+len(g.gone))
	for _, m := range g.members {
		if m.shown != nil {
			all = append(all, m.shown)
		}
	}
	if !g.protected.IsZero() {
		for _, l := range g.gone {
			all = append(all, l.instance)
		}
	}
	return all
}

// Has reports whether there is, or was a short while ago, anything of the service.
func (s *Set) Has(service string) bool { return s.groups[service] != nil }

// Services returns the names of the services that have an instance, sorted.
func (s *Set) Services() []string {
	var names []string
	for name := range s.groups {
		if len(s.Service(name)) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Protected reports whether some instances of the service are kept although they have expired.
func (s *Set) Protected(service string) bool {
	g := s.groups[service]
	return g != nil && !g.protected.IsZero()
}

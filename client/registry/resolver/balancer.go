package resolver

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/serviceconfig"
)

// BalancerName is the name of the balancer in a service config.
const BalancerName = "coord_weighted_zone"

func init() { balancer.Register(balancerBuilder{}) }

type balancerBuilder struct{}

// balancerConfig is what a service config can say of the balancer.
type balancerConfig struct {
	serviceconfig.LoadBalancingConfig `json:"-"`

	// Near are the zones to prefer, the most preferred first.
	Near []string `json:"near"`
}

// Name implements balancer.Builder.
func (balancerBuilder) Name() string { return BalancerName }

// ParseConfig implements balancer.ConfigParser.
func (balancerBuilder) ParseConfig(js json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	config := &balancerConfig{}
	if err := json.Unmarshal(js, config); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", BalancerName, err)
	}
	return config, nil
}

// Build implements balancer.Builder. Connections are gRPC's own business: there is a pick_first for each instance.
func (balancerBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	b := &weighted{ClientConn: cc}
	b.Balancer = endpointsharding.NewBalancer(b, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return b
}

// weighted stands between the connections to the instances and gRPC, and replaces the picker of the former.
type weighted struct {
	balancer.Balancer
	balancer.ClientConn

	near atomic.Pointer[[]string] // nil: none
}

// UpdateClientConnState implements balancer.Balancer.
func (b *weighted) UpdateClientConnState(s balancer.ClientConnState) error {
	if config, ok := s.BalancerConfig.(*balancerConfig); ok {
		b.near.Store(&config.Near)
	}
	s.BalancerConfig = nil // pick_first has another one
	return b.Balancer.UpdateClientConnState(s)
}

// UpdateState implements balancer.ClientConn.
func (b *weighted) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		var near []string
		if known := b.near.Load(); known != nil {
			near = *known
		}
		s.Picker = newPicker(endpointsharding.ChildStatesFromPicker(s.Picker), near)
	}
	b.ClientConn.UpdateState(s)
}

// picker draws one of the instances of the best zone that has any.
type picker struct {
	pickers []balancer.Picker
	upTo    []int // sums of the weights up to each picker
}

func newPicker(children []endpointsharding.ChildState, near []string) *picker {
	best := len(near) // the place of the zone in near; the same for all that are not in it
	p := &picker{}
	for _, child := range children {
		if child.State.ConnectivityState != connectivity.Ready {
			continue
		}
		weight, place := 1, len(near)
		if in := InstanceOf(child.Endpoint); in != nil {
			weight = in.Weight
			if at := slices.Index(near, in.Zone); at >= 0 {
				place = at
			}
		}
		if place > best {
			continue
		}
		if place < best {
			best, p.pickers, p.upTo = place, nil, nil
		}
		sum := weight
		if n := len(p.upTo); n > 0 {
			sum += p.upTo[n-1]
		}
		p.pickers, p.upTo = append(p.pickers, child.State.Picker), append(p.upTo, sum)
	}
	return p
}

// Pick implements balancer.Picker.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	at := sort.SearchInts(p.upTo, rand.IntN(p.upTo[len(p.upTo)-1])+1)
	return p.pickers[at].Pick(info)
}

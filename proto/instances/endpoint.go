package instances

import (
	"encoding/json"
	"fmt"
)

// endpoint is a value in the layout of etcd's naming/endpoints. It is as old as gRPC's own naming package, and etcd
// promises to keep it.
type endpoint struct {
	Op       int
	Addr     string
	Metadata any
}

// endpointMetadata is what we put into, and look for in, an endpoint's Metadata.
type endpointMetadata struct {
	ID       string            `json:"id,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Weight   int               `json:"weight,omitempty"`
	Tags     []string          `json:"tags,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Version  string            `json:"version,omitempty"`
}

// EncodeEndpoint is the value of the instance's mirror.
func (in *Instance) EncodeEndpoint() []byte {
	b, _ := json.Marshal(endpoint{Addr: in.Addr, Metadata: endpointMetadata{ // of strings and numbers: it cannot fail
		ID: in.ID, Zone: in.Zone, Weight: in.Weight, Tags: in.Tags, Metadata: in.Metadata, Version: in.Version,
	}})
	return b
}

// decodeEndpoint reads an endpoint that anybody may have written. Metadata that is not ours is kept as text, under
// "etcd".
func decodeEndpoint(service, rest string, value []byte) (*Instance, error) {
	var meta json.RawMessage
	e := endpoint{Metadata: &meta}
	if err := json.Unmarshal(value, &e); err != nil {
		return nil, err
	}
	in := &Instance{Service: service, ID: rest, Addr: e.Addr, Foreign: true}
	in.takeMetadata(meta)
	in.EnsureDefaults()
	if in.Weight < 1 || in.Weight > MaxWeight {
		in.Weight = 1
	}
	if in.Addr == "" {
		return nil, fmt.Errorf("endpoint %s of service %s: %w", rest, service, ErrNoAddress)
	}
	return in, nil
}

func (in *Instance) takeMetadata(meta json.RawMessage) {
	if len(meta) == 0 || string(meta) == "null" {
		return
	}
	var m endpointMetadata
	if json.Unmarshal(meta, &m) == nil && m.Weight > 0 { // ours always has a weight
		in.endpointOf = m.ID
		in.Zone, in.Weight, in.Tags, in.Metadata, in.Version = m.Zone, m.Weight, m.Tags, m.Metadata, m.Version
		return
	}
	text := string(meta)
	var s string
	if json.Unmarshal(meta, &s) == nil {
		text = s
	}
	in.Metadata = map[string]string{"etcd": text}
}

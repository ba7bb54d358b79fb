package roster

import (
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Prefix is what all keys of the registry begin with.
const Prefix = "_coord/services/"

// kind is the part of a key that says which record of an instance it is.
type kind string

const (
	instances kind = "instances"
	orders    kind = "orders"
	probes    kind = "probes"
	endpoints kind = "" // not below Prefix: a key in etcd's layout
)

// ServicePrefix is what the keys of a service begin with.
func ServicePrefix(service string) string { return Prefix + url.PathEscape(service) + "/" }

func key(service string, k kind, id string) string {
	return ServicePrefix(service) + string(k) + "/" + url.PathEscape(id)
}

// InstanceKey is the key of an instance.
func InstanceKey(service, id string) string { return key(service, instances, id) }

// OrderKey is the key of what an operator wants of an instance.
func OrderKey(service, id string) string { return key(service, orders, id) }

// ProbedKey is the key of what the cluster's probe of an instance found.
func ProbedKey(service, id string) string { return key(service, probes, id) }

// EndpointPrefix is what the keys of a service begin with in the layout of etcd's naming/endpoints.
func EndpointPrefix(service string) string { return service + "/" }

// EndpointKey is the key of an address in the layout of etcd's naming/endpoints.
func EndpointKey(service, addr string) string { return EndpointPrefix(service) + addr }

// parseKey is the reverse of key.
func parseKey(k string) (service string, what kind, id string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(k, Prefix), "/")
	if len(parts) != 3 {
		return "", "", "", false
	}
	service, err := url.PathUnescape(parts[0])
	if err != nil {
		return "", "", "", false
	}
	id, err = url.PathUnescape(parts[2])
	if err != nil {
		return "", "", "", false
	}
	switch what = kind(parts[1]); what {
	case instances, orders, probes:
		return service, what, id, true
	}
	return "", "", "", false
}

var deterministic = proto.MarshalOptions{Deterministic: true}

// marshal cannot fail: what goes in is checked to be UTF-8, and no field is required.
func marshal(m proto.Message) []byte {
	b, _ := deterministic.Marshal(m)
	return b
}

func unmarshal(b []byte, m proto.Message) error { return proto.Unmarshal(b, m) }

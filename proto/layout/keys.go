package layout

import "fmt"

// MemberKey is the key of a member of a group.
func MemberKey(group, id string) string { return Key{Group, group, GroupMember, id}.Encode() }

// InstanceKey is the key of an instance of a service.
func InstanceKey(service, id string) string { return Key{Service, service, Instance, id}.Encode() }

// OrderKey is the key of what an operator wants of an instance.
func OrderKey(service, id string) string { return Key{Service, service, Order, id}.Encode() }

// ProbedKey is the key of what the cluster's probe of an instance found.
func ProbedKey(service, id string) string { return Key{Service, service, Probe, id}.Encode() }

// EndpointPrefix is what the keys of a service begin with in the layout of etcd's naming/endpoints.
func EndpointPrefix(service string) string { return service + "/" }

// EndpointKey is the key of an address in the layout of etcd's naming/endpoints.
func EndpointKey(service, addr string) string { return EndpointPrefix(service) + addr }

// CurrentKey is the key of a bundle's current version.
func CurrentKey(bundle string) string { return Key{Kind: Bundle, Name: bundle, Part: Current}.Encode() }

// VersionKey is the key of a version of a bundle; they sort as the numbers do.
func VersionKey(bundle string, number int64) string {
	return Key{Bundle, bundle, Version, fmt.Sprintf("%016x", number)}.Encode()
}

// SchemasKey is the key of a bundle's schemas.
func SchemasKey(bundle string) string { return Key{Kind: Bundle, Name: bundle, Part: Schemas}.Encode() }

// StatusPrefix is what the keys of the clients' reports on a bundle begin with.
func StatusPrefix(bundle string) string { return StatusKey(bundle, "") }

// StatusKey is the key of a client's report on a bundle.
func StatusKey(bundle, client string) string { return Key{Bundle, bundle, Status, client}.Encode() }

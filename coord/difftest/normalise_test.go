package difftest

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"slices"
	"sort"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// presenceOnly names the fields whose values two correct servers may choose differently. A set field becomes 1, "x" or
// true, so that a field one server leaves out is still seen.
var presenceOnly = map[protoreflect.FullName]bool{
	"etcdserverpb.ResponseHeader.cluster_id":       true,
	"etcdserverpb.ResponseHeader.member_id":        true,
	"etcdserverpb.ResponseHeader.raft_term":        true,
	"etcdserverpb.StatusResponse.dbSize":           true,
	"etcdserverpb.StatusResponse.dbSizeInUse":      true,
	"etcdserverpb.StatusResponse.leader":           true,
	"etcdserverpb.StatusResponse.raftIndex":        true,
	"etcdserverpb.StatusResponse.raftTerm":         true,
	"etcdserverpb.StatusResponse.raftAppliedIndex": true,
	// etcd's storage version follows the cluster version some seconds after the start.
	"etcdserverpb.StatusResponse.storageVersion": true,
	"etcdserverpb.SnapshotResponse.version":      true,
	"etcdserverpb.HashResponse.hash":             true,
	"etcdserverpb.HashKVResponse.hash":           true,
	"etcdserverpb.Member.ID":                     true,
	"etcdserverpb.Member.name":                   true,
}

// countOnly names the repeated fields of which only the length is compared: a test server's URLs have random ports.
var countOnly = map[protoreflect.FullName]bool{
	"etcdserverpb.Member.peerURLs":   true,
	"etcdserverpb.Member.clientURLs": true,
}

// leaseFields names every field that holds a lease id.
var leaseFields = map[protoreflect.FullName]bool{
	"mvccpb.KeyValue.lease":                   true,
	"etcdserverpb.PutRequest.lease":           true,
	"etcdserverpb.Compare.lease":              true,
	"etcdserverpb.LeaseGrantRequest.ID":       true,
	"etcdserverpb.LeaseGrantResponse.ID":      true,
	"etcdserverpb.LeaseRevokeRequest.ID":      true,
	"etcdserverpb.LeaseKeepAliveRequest.ID":   true,
	"etcdserverpb.LeaseKeepAliveResponse.ID":  true,
	"etcdserverpb.LeaseTimeToLiveRequest.ID":  true,
	"etcdserverpb.LeaseTimeToLiveResponse.ID": true,
	"etcdserverpb.LeaseStatus.ID":             true,
}

// walk calls visit for every populated field of m and of all messages in it.
func walk(m protoreflect.Message, visit func(protoreflect.Message, protoreflect.FieldDescriptor, protoreflect.Value)) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		visit(m, fd, v)
		switch {
		case fd.Kind() != protoreflect.MessageKind || fd.IsMap():
		case fd.IsList():
			for i := range v.List().Len() {
				walk(v.List().Get(i).Message(), visit)
			}
		default:
			walk(v.Message(), visit)
		}
		return true
	})
}

func mapLeases(m protoreflect.Message, ids map[int64]int64) {
	walk(m, func(m protoreflect.Message, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
		if !leaseFields[fd.FullName()] {
			return
		}
		if id, ok := ids[v.Int()]; ok {
			m.Set(fd, protoreflect.ValueOfInt64(id))
		}
	})
}

// normalise changes m, an answer of t, into the form in which answers of two servers are compared.
func (t *target) normalise(m proto.Message) {
	mapLeases(m.ProtoReflect(), t.canonical)
	walk(m.ProtoReflect(), func(m protoreflect.Message, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
		switch {
		case presenceOnly[fd.FullName()]:
			m.Set(fd, placeholder(fd))
		case countOnly[fd.FullName()]:
			for i := range v.List().Len() {
				v.List().Set(i, protoreflect.ValueOfString("url"))
			}
		}
	})
	switch r := m.(type) {
	case *pb.LeaseTimeToLiveResponse:
		r.TTL = sign(r.TTL)
		slices.SortFunc(r.Keys, func(a, b []byte) int { return strings.Compare(string(a), string(b)) })
	case *pb.MemberListResponse:
		orderMembers(r.Members)
	case *pb.MemberAddResponse:
		orderMembers(r.Members)
	case *pb.MemberRemoveResponse:
		orderMembers(r.Members)
	case *pb.SnapshotResponse:
		r.Blob, r.RemainingBytes = nil, 0
	}
}

// orderMembers puts the learners last. Servers list members by id, and the ids are their choice.
func orderMembers(members []*pb.Member) {
	slices.SortStableFunc(members, func(a, b *pb.Member) int {
		switch {
		case a.IsLearner == b.IsLearner:
			return 0
		case b.IsLearner:
			return -1
		default:
			return 1
		}
	})
}

func placeholder(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(1)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1)
	default:
		return protoreflect.ValueOfInt64(1)
	}
}

func sign(v int64) int64 {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	default:
		return 0
	}
}

// orderLeases sorts each run of leases with one granted TTL. The list is in order of expiry, and leases of different
// TTLs are far apart here, but which of two with the same TTL comes first is a matter of time.
func orderLeases(r *pb.LeaseLeasesResponse, granted map[int64]int64) {
	for i := 0; i < len(r.Leases); {
		j := i
		for j < len(r.Leases) && granted[r.Leases[j].ID] == granted[r.Leases[i].ID] {
			j++
		}
		slices.SortFunc(r.Leases[i:j], func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
		i = j
	}
}

// diffOutcomes returns the differences of two normalised outcomes, one a line; none means equal.
func diffOutcomes(a, b outcome) []string {
	var diffs []string
	if a.code != b.code || a.text != b.text {
		diffs = append(diffs, fmt.Sprintf("status: %s | %s", statusLine(a), statusLine(b)))
	}
	return append(diffs, diffLists(a.msgs, b.msgs)...)
}

func statusLine(o outcome) string {
	if o.code == codes.OK {
		return "OK"
	}
	return fmt.Sprintf("%s %q", o.code, o.text)
}

func diffLists(a, b []proto.Message) []string {
	var diffs []string
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			diffs = append(diffs, fmt.Sprintf("[%d] only in the second: %s", i, format(b[i])))
		case i >= len(b):
			diffs = append(diffs, fmt.Sprintf("[%d] only in the first: %s", i, format(a[i])))
		case !proto.Equal(a[i], b[i]):
			diffs = append(diffs, diffMessages(fmt.Sprintf("[%d]", i), a[i], b[i])...)
		}
	}
	return diffs
}

// diffMessages lists the fields in which a and b differ.
func diffMessages(path string, a, b proto.Message) []string {
	fa, fb := flatten(a), flatten(b)
	paths := map[string]bool{}
	for p := range fa {
		paths[p] = true
	}
	for p := range fb {
		paths[p] = true
	}
	var diffs []string
	for p := range paths {
		if fa[p] != fb[p] {
			diffs = append(diffs, fmt.Sprintf("%s%s: %s | %s", path, p, orAbsent(fa[p]), orAbsent(fb[p])))
		}
	}
	sort.Strings(diffs)
	if len(diffs) == 0 {
		diffs = append(diffs, fmt.Sprintf("%s: %s | %s", path, format(a), format(b)))
	}
	return diffs
}

func orAbsent(s string) string {
	if s == "" {
		return "(absent)"
	}
	return s
}

// flatten maps the path of every populated scalar and every empty message in m to its printed value.
func flatten(m proto.Message) map[string]string {
	out := map[string]string{}
	flattenInto(out, "", m.ProtoReflect())
	return out
}

func flattenInto(out map[string]string, path string, m protoreflect.Message) {
	empty := true
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		empty = false
		p := path + "." + string(fd.Name())
		if !fd.IsList() {
			flattenValue(out, p, fd, v)
			return true
		}
		out[p+".len"] = fmt.Sprint(v.List().Len())
		for i := range v.List().Len() {
			flattenValue(out, fmt.Sprintf("%s[%d]", p, i), fd, v.List().Get(i))
		}
		return true
	})
	if empty && path != "" {
		out[path] = "{}"
	}
}

func flattenValue(out map[string]string, p string, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		flattenInto(out, p, v.Message())
	case protoreflect.BytesKind:
		out[p] = formatBytes(v.Bytes())
	case protoreflect.EnumKind:
		out[p] = fmt.Sprint(v.Enum())
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			out[p] = string(d.Name())
		}
	default:
		out[p] = fmt.Sprint(v.Interface())
	}
}

func formatBytes(b []byte) string {
	if len(b) <= 40 {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q… (%d bytes, crc %08x)", b[:16], len(b), crc32.ChecksumIEEE(b))
}

// format prints m on one line, fields in order of their numbers.
func format(m proto.Message) string {
	var b strings.Builder
	formatMessage(&b, m.ProtoReflect())
	return b.String()
}

func formatMessage(b *strings.Builder, m protoreflect.Message) {
	b.WriteString("{")
	sep := ""
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		fmt.Fprintf(b, "%s%s:", sep, fd.Name())
		sep = " "
		if !fd.IsList() {
			formatValue(b, fd, m.Get(fd))
			continue
		}
		list := m.Get(fd).List()
		b.WriteString("[")
		for j := range list.Len() {
			if j > 0 {
				b.WriteString(" ")
			}
			if j == 12 && list.Len() > 16 {
				fmt.Fprintf(b, "… %d in all", list.Len())
				break
			}
			formatValue(b, fd, list.Get(j))
		}
		b.WriteString("]")
	}
	b.WriteString("}")
}

func formatValue(b *strings.Builder, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	if fd.Kind() == protoreflect.MessageKind {
		formatMessage(b, v.Message())
		return
	}
	out := map[string]string{}
	flattenValue(out, "", fd, v)
	b.WriteString(out[""])
}

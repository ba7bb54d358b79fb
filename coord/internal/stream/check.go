package stream

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// Limits of what a request may carry, see stream.proto.
const (
	maxGuards      = 64
	minTTL, maxTTL = 100, statemachine.MaxSessionTTL // milliseconds
	maxHost        = 256                             // bytes, of a process, too
	maxLabels      = 64
	maxLabelBytes  = 4096
)

// check says why a request of a session must not go into the log, nil if it may. It may replace r.raw: by what the
// server has to choose.
func (s *Server) check(r *request) *coordv1.Refusal {
	etcd := s.opts.Etcd
	if r.Guards > maxGuards {
		return invalid("%d guards, more than %d", r.Guards, maxGuards)
	}
	if err := etcd.CheckSize(len(r.Body)); err != nil {
		return refusal(err)
	}
	if err := s.opts.Backend.CheckRequest(r.Kind); err != nil {
		return refusal(err)
	}
	switch r.Kind {
	case coordv1.Kind_KIND_PUT:
		return checked(r, &pb.PutRequest{}, etcd.CheckPut)
	case coordv1.Kind_KIND_DELETE_RANGE:
		return checked(r, &pb.DeleteRangeRequest{}, etcd.CheckDelete)
	case coordv1.Kind_KIND_TXN:
		return checked(r, &pb.TxnRequest{}, etcd.CheckTxn)
	case coordv1.Kind_KIND_LEASE_GRANT:
		return s.prepareGrant(r)
	case coordv1.Kind_KIND_LEASE_REVOKE:
		return checked(r, &pb.LeaseRevokeRequest{}, nil)
	case coordv1.Kind_KIND_WITHDRAW:
		return checked(r, &coordv1.Withdraw{}, nil)
	}
	if p := s.recipes[r.Kind]; p != nil { // it checks its request itself
		if !recipes.Grows(p) {
			return nil
		}
		if err := etcd.CheckNew(len(r.Body)); err != nil {
			return refusal(err)
		}
		return nil
	}
	return invalid("a request of kind %d is not one of a session", r.Kind)
}

// checked decodes the body of a request and checks it.
func checked[M proto.Message](r *request, m M, check func(M) error) *coordv1.Refusal {
	if refused := decode(r, m); refused != nil {
		return refused
	}
	if check == nil {
		return nil
	}
	if err := check(m); err != nil {
		return refusal(err)
	}
	return nil
}

func decode(r *request, m proto.Message) *coordv1.Refusal {
	if err := proto.Unmarshal(r.Body, m); err != nil {
		return invalid("body is not a %s: %v", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// prepareGrant gives the log an id and a TTL. A request that is sent again gets another id, which is not used then.
func (s *Server) prepareGrant(r *request) *coordv1.Refusal {
	grant, full := &pb.LeaseGrantRequest{}, &coordv1.Request{}
	if refused := checked(r, grant, s.opts.Etcd.PrepareLeaseGrant); refused != nil {
		return refused
	}
	if err := proto.Unmarshal(r.Raw, full); err != nil {
		return invalid("%v", err)
	}
	full.Body = encode(grant)
	r.Raw = encode(full)
	return nil
}

// checkOpen checks what a session is opened with.
func checkOpen(o *coordv1.SessionOpen) *coordv1.Refusal {
	if o.TtlMs < minTTL || o.TtlMs > maxTTL {
		return invalid("ttl_ms %d is not between %d and %d", o.TtlMs, minTTL, maxTTL)
	}
	id := o.GetIdentity()
	for _, part := range []struct{ field, value string }{{"host", id.GetHost()}, {"process", id.GetProcess()}} {
		if len(part.value) > maxHost {
			return invalid("identity.%s has %d bytes, more than %d", part.field, len(part.value), maxHost)
		}
	}
	if n := len(id.GetLabels()); n > maxLabels {
		return invalid("identity.labels has %d labels, more than %d", n, maxLabels)
	}
	bytes := 0
	for key, value := range id.GetLabels() {
		if key == "" {
			return invalid("identity.labels has an empty key")
		}
		bytes += len(key) + len(value)
	}
	if bytes > maxLabelBytes {
		return invalid("identity.labels has %d bytes, more than %d", bytes, maxLabelBytes)
	}
	return nil
}

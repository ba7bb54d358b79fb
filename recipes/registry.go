package recipes

import (
	"bytes"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/instances"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Names of the procedures of the service registry.
const (
	RegistryPut    = "registry.put.v1"    // recipesv1.ServicePut, coordv1.ServicePutResponse
	RegistryRemove = "registry.remove.v1" // recipesv1.ServiceRemove, coordv1.ServiceRemoveResponse
	RegistryOrder  = "registry.order.v1"  // coordv1.ServiceOrderRequest, ServiceOrderResponse
	RegistryProbed = "registry.probed.v1" // recipesv1.ServiceFound, ServiceNoted
)

func registryProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(called(RegistryPut, registryPut)),
		freeing(called(RegistryRemove, registryRemove)),
		called(RegistryOrder, registryOrder),
		called(RegistryProbed, registryProbed),
	}
}

// The records of the service registry; coordv1's service Registry is their contract. What a record says is checked by
// the member that takes the request. Here is checked what must be the same for every release: whose record it is, its
// size, and its lease.

// instance is what stands in the keys of an instance.
type instance struct {
	service, id string
	key         []byte
	kv          *mvccpb.KeyValue         // nil: there is none
	record      *coordv1.ServiceInstance // of kv; nil if there is none
}

func lookUp(step statemachine.Step, service, id string) (*instance, error) {
	if err := layout.CheckService(service); err != nil {
		return nil, invalid("%v", err)
	}
	if err := layout.CheckInstance(id); err != nil {
		return nil, invalid("%v", err)
	}
	in := &instance{service: service, id: id, key: []byte(layout.InstanceKey(service, id))}
	in.read(step)
	return in, nil
}

func (in *instance) read(step statemachine.Step) {
	in.kv, in.record = step.Get(in.key), nil
	if in.kv != nil {
		in.record = parseRecord(in.kv, &coordv1.ServiceInstance{})
	}
}

// parseRecord reads the value of a key; nil if there is none, or it is none of M.
func parseRecord[M proto.Message](kv *mvccpb.KeyValue, m M) M {
	if kv == nil || proto.Unmarshal(kv.Value, m) != nil {
		var none M
		return none
	}
	return m
}

func (in *instance) orderKey() []byte  { return []byte(layout.OrderKey(in.service, in.id)) }
func (in *instance) probedKey() []byte { return []byte(layout.ProbedKey(in.service, in.id)) }

// registryPut registers an instance, or says anew what it is. ErrMemberExists, ErrWrongKind.
func registryPut(step statemachine.Step, req *recipesv1.ServicePut) (proto.Message, error) {
	in, err := lookUp(step, req.Service, req.Id)
	if err != nil {
		return nil, err
	}
	if err := checkInstance(req); err != nil {
		return nil, err
	}
	before, record := in.kv, in.record
	if before != nil && req.Before != 0 && before.Lease != req.Before && before.Lease != req.Lease {
		return nil, refuse(ErrMemberExists, "instance %q of service %q is on lease %x", in.id, in.service, before.Lease)
	}
	rev, err := step.Put(in.key, req.Record, req.Lease)
	if err != nil {
		return nil, err
	}
	if err := in.passOn(step, req, before); err != nil {
		return nil, err
	}
	in.read(step)
	if err := in.putEndpoint(step, before, record); err != nil {
		return nil, err
	}
	return &coordv1.ServicePutResponse{Revision: rev}, nil
}

// checkInstance checks a record that is to be stored.
func checkInstance(req *recipesv1.ServicePut) error {
	if len(req.Record) > instances.MaxStored {
		return invalid("the record has %d bytes, more than %d", len(req.Record), instances.MaxStored)
	}
	record := &coordv1.ServiceInstance{}
	if err := proto.Unmarshal(req.Record, record); err != nil {
		return invalid("the record of an instance: %v", err)
	}
	switch {
	case record.Service != req.Service || record.Id != req.Id:
		return invalid("the record is that of %q of service %q", record.Id, record.Service)
	case record.Weight < 1 || record.Weight > instances.MaxWeight:
		return invalid("weight %d is not between 1 and %d", record.Weight, instances.MaxWeight)
	case record.State < coordv1.ServiceState_SERVICE_STATE_PASSING ||
		record.State > coordv1.ServiceState_SERVICE_STATE_CRITICAL:
		return invalid("state %d is none", record.State)
	case req.Lease == 0:
		return invalid("an instance without a lease")
	}
	return nil
}

// passOn does with the order and the probe of the instance before what is due: one that is new knows nothing of them,
// one that goes on in another session takes the order along. The result of a probe counts on its lease only.
func (in *instance) passOn(step statemachine.Step, req *recipesv1.ServicePut, before *mvccpb.KeyValue) error {
	if req.Before == 0 && (before == nil || before.Lease != req.Lease) {
		if _, err := step.Delete(in.orderKey()); err != nil {
			return err
		}
		_, err := step.Delete(in.probedKey())
		return err
	}
	order := step.Get(in.orderKey())
	if req.Before == req.Lease || order == nil {
		return nil
	}
	_, err := step.Put(in.orderKey(), order.Value, req.Lease)
	return err
}

// putEndpoint puts or deletes the endpoint as the records say now. before is the instance's key as it was, with its
// record. A key at the endpoint that is on no lease of the instance is somebody else's, and is not deleted.
// ErrWrongKind.
func (in *instance) putEndpoint(
	step statemachine.Step, before *mvccpb.KeyValue, record *coordv1.ServiceInstance,
) error {
	var want []byte
	if in.passing(step) && in.record.Mirror {
		want = []byte(layout.EndpointKey(in.service, in.record.Addr))
	}
	for _, was := range []*coordv1.ServiceInstance{record, in.record} {
		if !was.GetMirror() {
			continue
		}
		key := []byte(layout.EndpointKey(in.service, was.Addr))
		old := step.Get(key)
		if old == nil || bytes.Equal(key, want) || old.Lease != before.GetLease() && old.Lease != in.kv.GetLease() {
			continue
		}
		if _, err := step.Delete(key); err != nil {
			return err
		}
	}
	if want == nil {
		return nil
	}
	old := step.Get(want)
	if old != nil && old.Lease == in.kv.Lease && bytes.Equal(old.Value, in.record.Endpoint) {
		return nil
	}
	if err := endpointFits(step, string(want), old); err != nil {
		return err
	}
	_, err := step.PutEntry(want, in.record.Endpoint, in.kv.Lease, statemachine.Attachment{Kind: KindEndpoint})
	return err
}

// endpointFits refuses an endpoint at key, where old stands, if it would stand in the way of a lock or an election. One
// that stands already may be written again. ErrWrongKind.
func endpointFits(step statemachine.Step, key string, old *mvccpb.KeyValue) error {
	if old != nil && step.Attachment(old.Lease, old.Key).Kind == KindEndpoint {
		return nil
	}
	queue, _ := layout.QueueOfKey(key)
	for _, e := range frontOf(step, queue).entries {
		if !e.Foreign {
			return refuse(ErrWrongKind, "%q is that of a lock or an election, which would wait for the instance that "+
				"etcd's resolver finds at %q: register under another name, or without the mirror", queue, key)
		}
	}
	return nil
}

// passing says whether the worst of what the records say is that the instance takes requests.
func (in *instance) passing(step statemachine.Step) bool {
	if in.record == nil || in.record.State != coordv1.ServiceState_SERVICE_STATE_PASSING {
		return false
	}
	order := parseRecord(step.Get(in.orderKey()), &coordv1.ServiceOrder{})
	if order.GetState() == coordv1.ServiceState_SERVICE_STATE_DRAINING {
		return false
	}
	if in.record.Probe == nil {
		return true
	}
	probed := parseRecord(step.Get(in.probedKey()), &coordv1.ServiceProbed{})
	return probed.GetState() == coordv1.ServiceState_SERVICE_STATE_PASSING && probed.GetLease() == in.kv.Lease
}

// registryRemove takes an instance out of the registry, if it is on the lease. The note that it left is not worth a
// refusal.
func registryRemove(step statemachine.Step, req *recipesv1.ServiceRemove) (proto.Message, error) {
	in, err := lookUp(step, req.Service, req.Id)
	if err != nil {
		return nil, err
	}
	if len(req.Note) > MaxTextLen {
		return nil, invalid("a note of %d bytes, more than %d", len(req.Note), MaxTextLen)
	}
	if err := proto.Unmarshal(req.Note, &coordv1.ServiceOrder{}); err != nil {
		return nil, invalid("the note of one that left: %v", err)
	}
	if in.kv == nil || in.kv.Lease != req.Lease {
		return &coordv1.ServiceRemoveResponse{Revision: step.Revision()}, nil
	}
	before, record := in.kv, in.record
	for _, key := range [][]byte{in.key, in.probedKey()} {
		if _, err := step.Delete(key); err != nil {
			return nil, err
		}
	}
	in.read(step)
	if err := in.putEndpoint(step, before, record); err != nil {
		return nil, err
	}
	if err := in.note(step, req); err != nil {
		return nil, err
	}
	return &coordv1.ServiceRemoveResponse{Removed: true, Revision: step.Revision()}, nil
}

// note notes that the instance left, in place of an order to it, which goes in any case.
func (in *instance) note(step statemachine.Step, req *recipesv1.ServiceRemove) error {
	if req.NoteLease != 0 {
		if _, err := step.Put(in.orderKey(), req.Note, req.NoteLease); err == nil {
			return nil
		}
	}
	_, err := step.Delete(in.orderKey())
	return err
}

// registryOrder orders an instance to be drained, or takes that back. ErrNotSet, ErrWrongKind.
func registryOrder(step statemachine.Step, req *coordv1.ServiceOrderRequest) (proto.Message, error) {
	in, err := lookUp(step, req.Service, req.Id)
	switch {
	case err != nil:
		return nil, err
	case req.Order != nil && req.Order.State != coordv1.ServiceState_SERVICE_STATE_DRAINING:
		return nil, invalid("an order to be %v", req.Order.State)
	case len(req.Order.GetBy()) > MaxTextLen:
		return nil, invalid("an order by somebody of %d bytes, more than %d", len(req.Order.By), MaxTextLen)
	case in.kv == nil || !step.LeaseAlive(in.kv.Lease):
		return nil, refuse(ErrNotSet, "instance %q of service %q", in.id, in.service)
	}
	resp := &coordv1.ServiceOrderResponse{Revision: step.Revision()}
	if req.Order == nil {
		deleted, err := step.Delete(in.orderKey())
		if err != nil {
			return nil, err
		}
		if deleted {
			resp.Revision++
		}
	} else if resp.Revision, err = step.Put(in.orderKey(), encode(req.Order), in.kv.Lease); err != nil {
		return nil, err
	}
	return resp, in.putEndpoint(step, in.kv, in.record)
}

// registryProbed notes what a probe found, if the instance is still on the lease.
func registryProbed(step statemachine.Step, req *recipesv1.ServiceFound) (proto.Message, error) {
	in, err := lookUp(step, req.Service, req.Id)
	if err != nil {
		return nil, err
	}
	found := &coordv1.ServiceProbed{}
	if err := proto.Unmarshal(req.Record, found); err != nil || len(req.Record) > 2*MaxTextLen ||
		found.Lease != req.Lease {
		return nil, invalid("the record of a probe, of %d bytes: %v", len(req.Record), err)
	}
	if in.kv == nil || in.kv.Lease != req.Lease || !step.LeaseAlive(req.Lease) {
		return &recipesv1.ServiceNoted{}, nil
	}
	if _, err := step.Put(in.probedKey(), req.Record, req.Lease); err != nil {
		return nil, err
	}
	err = in.putEndpoint(step, in.kv, in.record)
	if errors.Is(err, ErrWrongKind) {
		err = nil // nobody is there to be told, and what was found counts without the mirror
	}
	return &recipesv1.ServiceNoted{Written: true}, err
}

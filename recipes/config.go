package recipes

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Names of the procedures of shared configuration.
const (
	ConfigCommit = "config.commit.v1" // recipesv1.ConfigCommit, ConfigCommitted
	ConfigReport = "config.report.v1" // coordv1.ConfigReportRequest, ConfigReportResponse
	ConfigDelete = "config.delete.v1" // coordv1.ConfigDeleteRequest, ConfigDeleteResponse
)

func configProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		called(ConfigCommit, configCommit),
		called(ConfigReport, configReport),
		freeing(called(ConfigDelete, configDelete)),
	}
}

// The keys of shared configuration; coordv1's service Config is their contract, and package configsvc checks documents
// and schemas before. Here is checked that nothing came in between, and that a version is the next one.

// Limits of the keys of a bundle.
const (
	maxConfigValue = 1 << 20 // bytes
	maxConfigKeep  = 1000    // versions
)

// configCommit makes a version the current one, or sets the schemas.
func configCommit(step statemachine.Step, req *recipesv1.ConfigCommit) (proto.Message, error) {
	if err := checkConfigName(req.Bundle); err != nil {
		return nil, err
	}
	if (req.Version == nil) == (req.Schemas == nil) || len(req.Version)+len(req.Schemas) > maxConfigValue {
		return nil, invalid("a version of %d bytes and schemas of %d: one of both, at most %d", len(req.Version),
			len(req.Schemas), maxConfigValue)
	}
	current, schemas := step.Get([]byte(layout.CurrentKey(req.Bundle))), step.Get([]byte(layout.SchemasKey(req.Bundle)))
	if current.GetModRevision() != req.CurrentRevision || schemas.GetModRevision() != req.SchemasRevision {
		return &recipesv1.ConfigCommitted{}, nil
	}
	var rev statemachine.Revision
	var err error
	if req.Version != nil {
		rev, err = putVersion(step, req.Bundle, req.Version, current)
	} else {
		rev, err = putSchemas(step, req.Bundle, req.Schemas)
	}
	if err != nil {
		return nil, err
	}
	return &recipesv1.ConfigCommitted{Revision: rev}, nil
}

// putVersion writes the version behind the current one, twice, and deletes what is not kept any more.
func putVersion(
	step statemachine.Step, bundle string, value []byte, current *mvccpb.KeyValue,
) (statemachine.Revision, error) {
	v, last := &coordv1.ConfigVersion{}, parseRecord(current, &coordv1.ConfigVersion{})
	if err := proto.Unmarshal(value, v); err != nil {
		return 0, invalid("a version of bundle %q: %v", bundle, err)
	}
	if v.Number < 1 || v.Number != last.GetNumber()+1 || v.Keep < 1 || v.Keep > maxConfigKeep {
		return 0, invalid("version %d of bundle %q behind %d, and %d to be kept", v.Number, bundle, last.GetNumber(),
			v.Keep)
	}
	rev, err := step.Put([]byte(layout.CurrentKey(bundle)), value, 0)
	if err != nil {
		return 0, err
	}
	if _, err := step.Put([]byte(layout.VersionKey(bundle, v.Number)), value, 0); err != nil {
		return 0, err
	}
	first, end := layout.VersionKey(bundle, 0), layout.VersionKey(bundle, max(1, v.Number-int64(v.Keep)+1))
	_, err = deleteRange(step, []byte(first), []byte(end))
	return rev, err
}

func putSchemas(step statemachine.Step, bundle string, value []byte) (statemachine.Revision, error) {
	if err := proto.Unmarshal(value, &coordv1.ConfigSchemas{}); err != nil {
		return 0, invalid("the schemas of bundle %q: %v", bundle, err)
	}
	key := []byte(layout.SchemasKey(bundle))
	if len(value) > 0 {
		return step.Put(key, value, 0)
	}
	_, err := step.Delete(key)
	return step.Revision(), err
}

// deleteRange deletes keys at one revision, and returns how many there were.
func deleteRange(step statemachine.Step, from, end []byte) (int, error) {
	var keys [][]byte
	step.Scan(from, end, func(kv *mvccpb.KeyValue) bool {
		keys = append(keys, kv.Key)
		return true
	})
	for _, key := range keys {
		if _, err := step.Delete(key); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// configReport says what a client has made of a bundle.
func configReport(step statemachine.Step, req *coordv1.ConfigReportRequest) (proto.Message, error) {
	for _, name := range []string{req.Bundle, req.Status.GetClient()} {
		if err := checkConfigName(name); err != nil {
			return nil, err
		}
	}
	if n := len(req.Status.Error); n > maxConfigError {
		return nil, invalid("an error of %d bytes, more than %d", n, maxConfigError)
	}
	rev, err := step.Put([]byte(layout.StatusKey(req.Bundle, req.Status.Client)), encode(req.Status), req.Lease)
	return &coordv1.ConfigReportResponse{Revision: rev}, err
}

const maxConfigError = 4096 // bytes, of a report

// configDelete deletes a bundle. ErrNotSet, ErrValueMismatch.
func configDelete(step statemachine.Step, req *coordv1.ConfigDeleteRequest) (proto.Message, error) {
	if err := checkConfigName(req.Bundle); err != nil {
		return nil, err
	}
	current := parseRecord(step.Get([]byte(layout.CurrentKey(req.Bundle))), &coordv1.ConfigVersion{})
	if req.Expected != nil && *req.Expected != current.GetNumber() {
		return nil, refuse(ErrValueMismatch, "bundle %q is at version %d, not %d", req.Bundle, current.GetNumber(),
			*req.Expected)
	}
	key, end := layout.Bundle.Range(req.Bundle).Bytes()
	n, err := deleteRange(step, key, end)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, refuse(ErrNotSet, "there is no bundle %q", req.Bundle)
	}
	return &coordv1.ConfigDeleteResponse{Revision: step.Revision()}, nil
}

// checkConfigName checks the name of a bundle or of a client.
func checkConfigName(name string) error {
	if err := layout.CheckBundle(name); err != nil {
		return invalid("%v", err)
	}
	return nil
}

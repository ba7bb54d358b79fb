package config

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Documents are contents by name.
type Documents map[string][]byte

// Version is one publication of a bundle.
type Version struct {
	Number   int64 // counts the publications from 1
	Revision int64 // of the store
	Author   string
	Reason   string
	Time     time.Time // by the clock of a member: for people
	Hash     string    // of the documents: SHA-256 in hex
	// RollbackOf is the version that a rollback brought back, 0 if it was none.
	RollbackOf int64
	Keep       int       // how many versions are kept
	Documents  Documents // nil in a history, a difference, and the result of a publication
}

func versionOf(v *coordv1.ConfigVersion) Version {
	if v == nil {
		return Version{}
	}
	version := Version{
		Number: v.GetNumber(), Revision: v.GetRevision(), Author: v.GetAuthor(), Reason: v.GetReason(),
		Time: time.UnixMilli(v.GetTimeUnixMs()), Hash: hex.EncodeToString(v.GetHash()), RollbackOf: v.GetRollbackOf(),
		Keep: int(v.GetKeep()),
	}
	if len(v.GetDocuments()) > 0 {
		version.Documents = Documents{}
	}
	for _, d := range v.GetDocuments() {
		version.Documents[d.Name] = d.Content
	}
	return version
}

// stored is a version as it stands under a key, with the revision at which it was put there.
type stored struct {
	Version
	value []byte
}

func decodeStored(kv *mvccpb.KeyValue) (*stored, error) { return parseStored(kv.Value, kv.ModRevision) }

func parseStored(value []byte, revision int64) (*stored, error) {
	v := &coordv1.ConfigVersion{}
	if err := proto.Unmarshal(value, v); err != nil {
		return nil, fmt.Errorf("the stored value is not a version: %w", err)
	}
	v.Revision = revision
	return &stored{versionOf(v), value}, nil
}

// protoDocuments are in the order of the names.
func protoDocuments(documents Documents) []*coordv1.ConfigDocument {
	var list []*coordv1.ConfigDocument
	for name, content := range documents {
		list = append(list, &coordv1.ConfigDocument{Name: name, Content: content})
	}
	slices.SortFunc(list, func(a, b *coordv1.ConfigDocument) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

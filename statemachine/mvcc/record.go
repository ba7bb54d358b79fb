package mvcc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// ErrCorrupt is wrapped by errors about bytes in the store that no version of this program wrote.
var ErrCorrupt = errors.New("corrupt store")

// encodeRecord returns the bytes of a version that is not a tombstone.
func encodeRecord(kv *mvccpb.KeyValue) []byte {
	dst := make([]byte, 0, 4*binary.MaxVarintLen64+len(kv.Value))
	for _, v := range [...]int64{kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease} {
		dst = binary.AppendUvarint(dst, uint64(v))
	}
	return append(dst, kv.Value...)
}

// decodeRecord parses a record. The value aliases data.
func decodeRecord(key, data []byte) (*mvccpb.KeyValue, error) {
	kv := &mvccpb.KeyValue{}
	if err := decodeInto(kv, key, data); err != nil {
		return nil, err
	}
	return kv, nil
}

// decodeInto is decodeRecord into what is there already.
func decodeInto(kv *mvccpb.KeyValue, key, data []byte) error {
	kv.Key, kv.Value = key, nil
	for _, field := range [...]*int64{&kv.CreateRevision, &kv.ModRevision, &kv.Version, &kv.Lease} {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			return fmt.Errorf("%w: record of key %q is cut short", ErrCorrupt, key)
		}
		*field, data = int64(v), data[n:]
	}
	if len(data) > 0 {
		kv.Value = data
	}
	return nil
}

func corruptRow(key []byte) error { return fmt.Errorf("%w: row key %x", ErrCorrupt, key) }

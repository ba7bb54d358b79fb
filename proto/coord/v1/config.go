package coordv1

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/url"
)

// ConfigPrefix is what the keys of a bundle begin with; see config.proto for what stands there.
func ConfigPrefix(bundle string) string { return "_coord/config/" + url.PathEscape(bundle) + "/" }

// ConfigCurrentKey is the key of a bundle's current version.
func ConfigCurrentKey(bundle string) string { return ConfigPrefix(bundle) + "current" }

// ConfigVersionKey is the key of a version; the keys of a bundle sort as the numbers do.
func ConfigVersionKey(bundle string, number int64) string {
	return fmt.Sprintf("%sversions/%016x", ConfigPrefix(bundle), number)
}

// ConfigSchemasKey is the key of a bundle's schemas.
func ConfigSchemasKey(bundle string) string { return ConfigPrefix(bundle) + "schemas" }

// ConfigStatusPrefix is what the keys of the clients' reports begin with.
func ConfigStatusPrefix(bundle string) string { return ConfigPrefix(bundle) + "status/" }

// ConfigStatusKey is the key of a client's report.
func ConfigStatusKey(bundle, client string) string {
	return ConfigStatusPrefix(bundle) + url.PathEscape(client)
}

// ConfigHash is the hash of documents in the order of their names, as ConfigVersion.hash says.
func ConfigHash(documents []*ConfigDocument) []byte {
	h := sha256.New()
	write := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	for _, d := range documents {
		write([]byte(d.GetName()))
		write(d.GetContent())
	}
	return h.Sum(nil)
}

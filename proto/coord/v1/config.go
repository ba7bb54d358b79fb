package coordv1

import (
	"crypto/sha256"
	"encoding/binary"
)

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

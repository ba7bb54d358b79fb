package datadir

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// TestGoldenMetadata: the file is written as it was, and one that was written is read. Another form is another
// formatVersion.
func TestGoldenMetadata(t *testing.T) {
	incarnation := func(digit string) handshake.Incarnation {
		parsed, err := handshake.ParseIncarnation(strings.Repeat(digit, 64))
		assert.NilError(t, err)
		return parsed
	}
	met := metWith(incarnation("2"))
	heard := acquaintance{Fingerprint: fingerprint{incarnation("3").Fingerprint()}}
	m := metadata{
		Format: formatVersion, ClusterID: 0xcdf818194e3a8c32, MemberID: 0x8e9e05c52164694d, Name: "m1",
		PeerURLs:    []string{"http://127.0.0.1:2380"},
		Incarnation: secret{incarnation("1")}, Boot: 7, Admitted: true, Populated: true,
		Choices: map[string]string{"b": "2", "a": "1"},
		Parts:   []string{"db", "wal"}, Peers: map[hexID]acquaintance{2: met, 0xa: heard},
		Refused: []string{"7.1", "8.1.2"},
	}
	assert.NilError(t, m.check())
	data, err := encodeMeta(m)
	assert.NilError(t, err)
	golden.AssertBytes(t, data, "meta.json")
	read, err := decodeMeta(golden.Get(t, "meta.json"))
	assert.NilError(t, err)
	again, err := encodeMeta(read)
	assert.NilError(t, err)
	golden.AssertBytes(t, again, "meta.json")
}

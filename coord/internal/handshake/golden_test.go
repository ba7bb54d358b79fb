package handshake

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"
)

// TestGoldenMessages: members of two releases shake hands, so the messages are as they were, and those that were are
// read.
func TestGoldenMessages(t *testing.T) {
	hello := Hello{
		Purpose: Snapshot, Cluster: 0xcdf818194e3a8c32, Member: 0x8e9e05c52164694d, Wanted: 3, Boot: 4, Start: 1 << 63,
		Fresh: true, Knows: true,
		Fingerprint: Fingerprint(bytes.Repeat([]byte{5}, len(Fingerprint{}))),
		Refusals:    DigestRefusals([]string{"7.1", "8.1.2"}),
		MinVersion:  1, MaxVersion: 3, Version: 2, History: 0x7f00000000000001,
		challenge: [32]byte(bytes.Repeat([]byte{6}, 32)),
	}
	proven := proof{
		own: bytes.Repeat([]byte{7}, tagSize), pair: bytes.Repeat([]byte{8}, tagSize), number: bytes.Repeat([]byte{9},
			32),
	}
	said := verdict{
		reason: Reason{Kind: Removed, Text: "why"}, number: proven.number, refusals: []string{"7.1", "8.1.2"},
		heard: map[uint64]Fingerprint{3: hello.Fingerprint, 2: hello.Fingerprint},
	}
	var out bytes.Buffer
	var lines []string
	for _, m := range []struct {
		kind kind
		body []byte
	}{{kindHello, hello.encode()}, {kindProof, proven.encode()},
		{kindVerdict, append(said.body(), bytes.Repeat([]byte{10}, tagSize)...)}} {
		out.Reset()
		assert.NilError(t, writeMessage(&out, m.kind, m.body))
		lines = append(lines, fmt.Sprintf("%x", out.Bytes()))
	}
	golden.Assert(t, strings.Join(lines, "\n")+"\n", "messages")

	var bodies [][]byte
	for i, line := range strings.Fields(string(golden.Get(t, "messages"))) {
		var data []byte
		_, err := fmt.Sscanf(line, "%x", &data)
		assert.NilError(t, err)
		body, err := readMessage(bytes.NewReader(data), kind(i+1))
		assert.NilError(t, err)
		bodies = append(bodies, body)
	}
	gotHello, err := decodeHello(bodies[0])
	assert.NilError(t, err)
	assert.Equal(t, gotHello, hello)
	gotProof, err := decodeProof(bodies[1])
	assert.NilError(t, err)
	assert.DeepEqual(t, gotProof.encode(), proven.encode())
	gotVerdict, _, err := decodeVerdict(bodies[2])
	assert.NilError(t, err)
	assert.DeepEqual(t, gotVerdict.body(), said.body())
}

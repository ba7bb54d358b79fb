package datadir

import (
	"bytes"
	"testing"
)

// FuzzDecodeMeta: no bytes make the decoder panic, and what it accepts it would write the same way again.
func FuzzDecodeMeta(f *testing.F) {
	m := metadata{
		Format: formatVersion, ClusterID: 1, MemberID: 2, Name: "a", PeerURLs: []string{"http://127.0.0.1:2380"},
		Incarnation: secret{incarnation(3)}, Boot: 4,
		Admitted: true, Populated: true, Choices: map[string]string{"log store": "pebble"},
		Parts: []string{"db", "wal"}, Peers: map[hexID]acquaintance{
			5: metWith(incarnation(6)), 7: {Fingerprint: fingerprint{incarnation(8).Fingerprint()}},
		},
	}
	b, err := encodeMeta(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte(`{"crc32c":"` + checksum([]byte("{}")) + `","meta":{}}`))
	f.Add([]byte(`{"crc32c":"` + checksum([]byte("null")) + `","meta":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		once, err := encodeMeta(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeMeta(once)
		if err != nil {
			t.Fatalf("%s is not accepted: %v", once, err)
		}
		twice, err := encodeMeta(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
	})
}

// FuzzDecodeMetaBody is FuzzDecodeMeta behind a checksum that always fits.
func FuzzDecodeMetaBody(f *testing.F) {
	f.Add([]byte(`{"format":3,"clusterID":"1","memberID":"2","incarnation":"` + incarnation(3).Reveal() + `","boot":1}`))
	f.Add([]byte(`{"format":3,"peers":{"x":"y"}}`))
	f.Add([]byte(`{"format":1e400}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := append([]byte(`{"crc32c":"`+checksum(body)+`","meta":`), body...)
		m, err := decodeMeta(append(b, '}'))
		if err == nil && (m.Format != formatVersion || m.ClusterID == 0 || m.MemberID == 0 || m.Incarnation.IsZero() ||
			m.Boot == 0) {
			t.Fatalf("accepted %s", body)
		}
	})
}

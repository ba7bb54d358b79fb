package mvcc

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestLatestOfATxIsThatOfItsRows: whatever is written and taken back between two looks, Tx.Latest is what Latest finds
// in the rows.
func TestLatestOfATxIsThatOfItsRows(t *testing.T) {
	db := openMem(t)
	rapid.Check(t, func(t *rapid.T) {
		f := newRelatives(t, db)
		key := rapid.SampledFrom([]string{"a", "b", "a/1", string(bytes.Repeat([]byte("k"), 300))})
		var open []Savepoint
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				f.change(key.Draw(t, "key"))
			case 1:
				open = append(open, f.tx.Begin())
			case 2:
				if n := len(open); n > 0 {
					if rapid.Bool().Draw(t, "back") {
						f.tx.Rollback(open[n-1])
					}
					f.tx.EndSavepoint()
					open = open[:n-1]
				}
			case 3:
				if len(open) == 0 {
					f.commit()
				}
			}
			k := []byte(key.Draw(t, "look"))
			got, err := f.tx.Latest(k)
			want, wantErr := Latest(f.overlay, k)
			if err != nil || wantErr != nil {
				t.Fatal(err, wantErr)
			}
			if got.String() != want.String() || (got == nil) != (want == nil) {
				t.Fatalf("latest %q: %v, the rows have %v", k, got, want)
			}
		}
	})
}

package history

import (
	"math"
	"testing"
	"time"
)

func TestLinearizable(t *testing.T) {
	const forever = math.MaxInt64
	for _, c := range []struct {
		name   string
		ops    []Op
		expiry Expiry
		legal  bool
	}{
		{"hand-off", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {1, Acquire, "a", 2, OK, 5, 30}, {0, Release, "a", 1, OK, 20, 25},
		}, nil, true},
		{"two holders", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {1, Acquire, "a", 2, OK, 5, 15}, {0, Release, "a", 1, OK, 20, 25},
		}, nil, false},
		{"two names", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {1, Acquire, "b", 2, OK, 5, 15}, {0, Release, "a", 1, OK, 20, 25},
		}, nil, true},
		{"taken over after the session may have died", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {1, Acquire, "a", 2, OK, 5, 30},
		}, Expiry{{"a", 1}: 20}, true},
		{"taken over before the session may have died", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {1, Acquire, "a", 2, OK, 5, 15},
		}, Expiry{{"a", 1}: 20}, false},
		{"token falls", []Op{
			{0, Acquire, "a", 5, OK, 0, 10}, {0, Release, "a", 5, OK, 11, 12}, {1, Acquire, "a", 4, OK, 13, 14},
		}, nil, false},
		{"a write of an old holder", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {1, Acquire, "a", 2, OK, 11, 30}, {0, Guarded, "a", 1, OK, 40, 50},
		}, Expiry{{"a", 1}: 20}, false},
		{"a write of an old holder that is fenced", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {1, Acquire, "a", 2, OK, 11, 30}, {0, Guarded, "a", 1, Refused, 40, 50},
		}, Expiry{{"a", 1}: 20}, true},
		{"fenced though it holds", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {0, Guarded, "a", 1, Refused, 40, 50}, {0, Release, "a", 1, OK, 60, 61},
		}, nil, false},
		{"a stale release that frees a newer grant", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {0, Release, "a", 1, Unknown, 11, 12}, {1, Acquire, "a", 2, OK, 13, 14},
			{2, Acquire, "a", 3, OK, 15, 16}, {1, Guarded, "a", 2, OK, 20, 21},
		}, nil, false},
		{"false busy", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {0, Release, "a", 1, OK, 11, 12}, {1, Try, "a", 0, Refused, 13, 14},
		}, nil, false},
		{"busy because of one who gave up", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {0, Release, "a", 1, OK, 11, 12}, {1, Try, "a", 0, Refused, 13, 14},
			{2, Acquire, "a", 0, Refused, 5, 20},
		}, nil, true},
		{"busy", []Op{{0, Acquire, "a", 1, OK, 0, 10}, {1, Try, "a", 0, Refused, 13, 14}}, nil, true},
		{"a release that nobody saw return", []Op{
			{0, Acquire, "a", 1, OK, 0, 10}, {0, Release, "a", 1, "", 11, forever}, {1, Acquire, "a", 2, OK, 13, 14},
		}, nil, true},
	} {
		if err := Linearizable(c.ops, c.expiry, 10*time.Second); (err == nil) != c.legal {
			t.Errorf("%s: legal is %v: %v", c.name, c.legal, err)
		}
	}
}

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
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {1, Acquire, "a", 2, OK, 5, 30, 0}, {0, Release, "a", 1, OK, 20, 25, 0},
		}, nil, true},
		{"two holders", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {1, Acquire, "a", 2, OK, 5, 15, 0}, {0, Release, "a", 1, OK, 20, 25, 0},
		}, nil, false},
		{"two names", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {1, Acquire, "b", 2, OK, 5, 15, 0}, {0, Release, "a", 1, OK, 20, 25, 0},
		}, nil, true},
		{"taken over after the session may have died", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {1, Acquire, "a", 2, OK, 5, 30, 0},
		}, Expiry{{"a", 1}: 20}, true},
		{"taken over before the session may have died", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {1, Acquire, "a", 2, OK, 5, 15, 0},
		}, Expiry{{"a", 1}: 20}, false},
		{"token falls", []Op{
			{0, Acquire, "a", 5, OK, 0, 10, 0}, {0, Release, "a", 5, OK, 11, 12, 0}, {1, Acquire, "a", 4, OK, 13, 14,
				0},
		}, nil, false},
		{"a write of an old holder", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {1, Acquire, "a", 2, OK, 11, 30, 0}, {0, Guarded, "a", 1, OK, 40, 50,
				0},
		}, Expiry{{"a", 1}: 20}, false},
		{"a write of an old holder that is fenced", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {1, Acquire, "a", 2, OK, 11, 30, 0}, {0, Guarded, "a", 1, Refused, 40,
				50, 0},
		}, Expiry{{"a", 1}: 20}, true},
		{"fenced though it holds", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {0, Guarded, "a", 1, Refused, 40, 50, 0},
			{0, Release, "a", 1, OK, 60, 61, 0},
		}, nil, false},
		{"a stale release that frees a newer grant", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {0, Release, "a", 1, Unknown, 11, 12, 0},
			{1, Acquire, "a", 2, OK, 13, 14, 0},
			{2, Acquire, "a", 3, OK, 15, 16, 0}, {1, Guarded, "a", 2, OK, 20, 21, 0},
		}, nil, false},
		{"false busy", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {0, Release, "a", 1, OK, 11, 12, 0}, {1, Try, "a", 0, Refused, 13, 14,
				0},
		}, nil, false},
		{"busy because of one who gave up", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {0, Release, "a", 1, OK, 11, 12, 0}, {1, Try, "a", 0, Refused, 13, 14,
				0},
			{2, Acquire, "a", 0, Refused, 5, 20, 0},
		}, nil, true},
		{"busy", []Op{{0, Acquire, "a", 1, OK, 0, 10, 0}, {1, Try, "a", 0, Refused, 13, 14, 0}}, nil, true},
		{"a release that nobody saw return", []Op{
			{0, Acquire, "a", 1, OK, 0, 10, 0}, {0, Release, "a", 1, "", 11, forever, 0},
			{1, Acquire, "a", 2, OK, 13, 14, 0},
		}, nil, true},
	} {
		if err := Linearizable(c.ops, nil, c.expiry, 10*time.Second); (err == nil) != c.legal {
			t.Errorf("%s: legal is %v: %v", c.name, c.legal, err)
		}
	}
}

// TestLinearizableOfManyHolders: permits of a semaphore, readers and writers.
func TestLinearizableOfManyHolders(t *testing.T) {
	const writer = 1000
	acquire := func(client int, token, call, ret int64, weight int) Op {
		return Op{client, Acquire, "a", token, OK, call, ret, weight}
	}
	for _, c := range []struct {
		name   string
		limit  int
		ops    []Op
		expiry Expiry
		legal  bool
	}{
		{"as many as there are", 3, []Op{acquire(0, 1, 0, 1, 1), acquire(1, 2, 2, 3, 2)}, nil, true},
		{"one more", 3, []Op{acquire(0, 1, 0, 1, 2), acquire(1, 2, 2, 3, 2), {0, Guarded, "a", 1, OK, 4, 5, 0}}, nil,
			false},
		{"one more when one is back", 3, []Op{acquire(0, 1, 0, 1, 2), {0, Release, "a", 1, OK, 2, 9, 0},
			acquire(1, 2, 3, 4, 2)}, nil, true},
		{"permits that come back twice", 2, []Op{
			acquire(0, 1, 0, 1, 1), acquire(1, 2, 0, 2, 1), {0, Release, "a", 1, OK, 3, 4, 0}, acquire(0, 3, 5, 6, 1),
			acquire(2, 4, 7, 8, 1),
			{1, Guarded, "a", 2, OK, 9, 10, 0}, {0, Guarded, "a", 3, OK, 9, 10, 0}, {2, Guarded, "a", 4, OK, 9, 10, 0},
		}, nil, false},
		{"permits of the dead", 2, []Op{acquire(0, 1, 0, 1, 2), acquire(1, 2, 2, 9, 2)}, Expiry{{"a", 1}: 5}, true},
		{"one of two that may be dead holds still", 3, []Op{
			acquire(0, 1, 0, 1, 1), acquire(1, 2, 0, 2, 2), acquire(2, 3, 3, 9, 1), {0, Guarded, "a", 1, OK, 10, 11, 0},
		}, Expiry{{"a", 1}: 5, {"a", 2}: 5}, true},
		{"none of two that may be dead is", 3, []Op{
			acquire(0, 1, 0, 1, 1), acquire(1, 2, 0, 2, 2), acquire(2, 3, 3, 9, 1), {0, Guarded, "a", 1, OK, 10, 11, 0},
			{1, Guarded, "a", 2, OK, 10, 11, 0},
		}, Expiry{{"a", 1}: 5, {"a", 2}: 5}, false},
		{"busy though there is room", 3, []Op{acquire(0, 1, 0, 1, 1), {1, Try, "a", 0, Refused, 2, 3, 2}}, nil, false},
		{"busy", 3, []Op{acquire(0, 1, 0, 1, 2), {1, Try, "a", 0, Refused, 2, 3, 2}}, nil, true},
		{"readers", writer, []Op{acquire(0, 1, 0, 1, 1), acquire(1, 2, 2, 3, 1)}, nil, true},
		{"a writer beside a reader", writer, []Op{acquire(0, 1, 0, 1, 1), acquire(1, 2, 2, 3, writer)}, nil, false},
		{"a reader beside a writer", writer, []Op{acquire(0, 1, 0, 1, writer), acquire(1, 2, 2, 3, 1)}, nil, false},
		{"a reader beside one who was a writer", writer, []Op{
			acquire(0, 1, 0, 1, writer), {0, Downgrade, "a", 1, OK, 2, 9, 0}, acquire(1, 2, 3, 4, 1),
			{0, Guarded, "a", 1, OK, 10, 11, 0},
		}, nil, true},
		{"a writer beside one who was a writer", writer, []Op{
			acquire(0, 1, 0, 1, writer), {0, Downgrade, "a", 1, OK, 2, 3, 0}, acquire(1, 2, 4, 5, writer),
		}, nil, false},
	} {
		if err := Linearizable(c.ops, Limits{"a": c.limit}, c.expiry, 10*time.Second); (err == nil) != c.legal {
			t.Errorf("%s: legal is %v: %v", c.name, c.legal, err)
		}
	}
}

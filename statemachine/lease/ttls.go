package lease

import "container/heap"

// ttls counts leases by TTL, and knows the smallest TTL: any number of them may differ, and any lease may be the last
// of its TTL.
type ttls struct {
	byTTL map[int64]*ttlCount
	least ttlHeap
}

// ttlCount is how many leases have a TTL, one at least.
type ttlCount struct {
	ttl int64
	n   int
	at  int // where it is in the heap
}

// min is the smallest TTL, 0 without leases.
func (t *ttls) min() int64 {
	if len(t.least) == 0 {
		return 0
	}
	return t.least[0].ttl
}

func (t *ttls) add(ttl int64) {
	c := t.byTTL[ttl]
	if c == nil {
		c = &ttlCount{ttl: ttl}
		t.byTTL[ttl] = c
		heap.Push(&t.least, c)
	}
	c.n++
}

func (t *ttls) drop(ttl int64) {
	c := t.byTTL[ttl]
	if c.n--; c.n == 0 {
		delete(t.byTTL, ttl)
		heap.Remove(&t.least, c.at)
	}
}

type ttlHeap []*ttlCount

func (h ttlHeap) Len() int           { return len(h) }
func (h ttlHeap) Less(i, j int) bool { return h[i].ttl < h[j].ttl }
func (h ttlHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *ttlHeap) Push(x any) {
	c := x.(*ttlCount)
	c.at = len(*h)
	*h = append(*h, c)
}
func (h *ttlHeap) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return c
}

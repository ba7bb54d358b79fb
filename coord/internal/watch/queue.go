package watch

// queue is a first-in first-out line of watchers.
type queue struct {
	list []*watcher
	head int
}

func (q *queue) push(w *watcher) {
	if q.head > 0 && len(q.list) == cap(q.list) {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, w)
}

// pop returns nil if the queue is empty.
func (q *queue) pop() *watcher {
	if q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
		return nil
	}
	w := q.list[q.head]
	q.list[q.head] = nil
	q.head++
	return w
}

// all returns the line, first to last; it is valid until the next push or pop.
func (q *queue) all() []*watcher { return q.list[q.head:] }

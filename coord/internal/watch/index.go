package watch

import "go.etcd.io/etcd/pkg/v3/adt"

// index finds the watchers of a key: those of exactly this key in a map, those of ranges in a tree of intervals. A
// watcher is in at most one index at a time.
type index struct {
	keys   map[string]*bucket
	ranges adt.IntervalTree // values are *bucket
	size   int
}

// bucket is the set of the watchers of one key or one range. Each watcher knows its place in it.
type bucket struct{ list []*watcher }

func newIndex() *index {
	return &index{keys: make(map[string]*bucket), ranges: adt.NewIntervalTree()}
}

// add puts w, which is in no index, into this one.
func (x *index) add(w *watcher) {
	b := x.bucket(w)
	if b == nil {
		b = &bucket{}
		if w.single {
			x.keys[w.key] = b
		} else {
			x.ranges.Insert(w.interval(), b)
		}
	}
	w.slot = len(b.list)
	b.list = append(b.list, w)
	x.size++
}

// remove takes w out of this index, which holds it.
func (x *index) remove(w *watcher) {
	b := x.bucket(w)
	last := len(b.list) - 1
	moved := b.list[last]
	b.list[w.slot], moved.slot = moved, w.slot
	b.list[last] = nil
	b.list = b.list[:last]
	x.size--
	if last > 0 {
		return
	}
	if w.single {
		delete(x.keys, w.key)
	} else {
		x.ranges.Delete(w.interval())
	}
}

func (x *index) bucket(w *watcher) *bucket {
	if w.single {
		return x.keys[w.key]
	}
	if v := x.ranges.Find(w.interval()); v != nil {
		return v.Val.(*bucket)
	}
	return nil
}

// each calls fn once for each watcher. fn must not change the index.
func (x *index) each(fn func(*watcher)) {
	for _, b := range x.keys {
		for _, w := range b.list {
			fn(w)
		}
	}
	x.ranges.Visit(adt.NewStringAffineInterval("\x00", ""), func(v *adt.IntervalValue) bool {
		for _, w := range v.Val.(*bucket).list {
			fn(w)
		}
		return true
	})
}

// match calls fn once for each watcher of key. fn must not change the index.
func (x *index) match(key []byte, fn func(*watcher)) {
	if b := x.keys[string(key)]; b != nil {
		for _, w := range b.list {
			fn(w)
		}
	}
	if x.ranges.Len() == 0 {
		return
	}
	x.ranges.Visit(adt.NewStringAffinePoint(string(key)), func(v *adt.IntervalValue) bool {
		for _, w := range v.Val.(*bucket).list {
			fn(w)
		}
		return true
	})
}

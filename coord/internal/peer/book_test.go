package peer

import "testing"

// TestRemovedFromAShard: who has lost its replica of one shard is a member of the cluster still, unless the shard is
// that of the members.
func TestRemovedFromAShard(t *testing.T) {
	b := NewBook()
	b.Set(7, []string{"127.0.0.1:1"})
	told := 0
	defer b.watch(func(uint64) { told++ })()
	r, err := b.RegistryFactory(1).Create("", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Remove(2, 7)
	if b.Removed(7) || b.Addrs(7) == nil || told != 0 {
		t.Errorf("removed from shard 2: from the cluster %v, at %v, told %d times", b.Removed(7), b.Addrs(7), told)
	}
	if _, _, err := r.Resolve(2, 7); err == nil {
		t.Error("shard 2 has the replica still")
	}
	if _, _, err := r.Resolve(1, 7); err != nil {
		t.Errorf("shard 1 has lost the replica, too: %v", err)
	}
	for range 2 {
		r.Remove(1, 7)
	}
	if !b.Removed(7) || b.Addrs(7) != nil || told != 1 {
		t.Errorf("removed from shard 1: from the cluster %v, at %v, told %d times", b.Removed(7), b.Addrs(7), told)
	}
}

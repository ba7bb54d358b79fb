package lease

import "testing"

// A lease that is renewed again and again, long before it is due, must not fill the memory with deadlines it had.
func TestDeadlinesOfThePastAreForgotten(t *testing.T) {
	table := NewTable(nil)
	table.Grant(1, 1, 1, "")
	table.Grant(2, 1<<40, 1, "")
	table.Tick(1, 0, 1) // lease 1 is at the top from now on, and is not due as no time passes
	for n := uint64(2); n < 20*spareDue; n++ {
		table.Renew(2, n)
		if _, ok := table.Tick(n, 0, n); !ok {
			t.Fatal("not the next tick")
		}
		if len(table.due) > spareDue+5 {
			t.Fatalf("%d deadlines of two leases", len(table.due))
		}
	}
	table.Renew(2, 20*spareDue)
	table.Tick(20*spareDue, 1, 20*spareDue)
	if due := table.Due(10); len(due) != 1 || due[0] != 1 {
		t.Errorf("due: %v", due)
	}
}

// Package undo lets the apply take back what a step changed.
//
// While a step is open, whatever the log changes beside rows (leases, sessions, outcomes) notes here how to take that
// back; rows are kept by mvcc's overlay itself. A step that is refused is rolled back, newest change first; of one that
// is not, the notes are dropped. Nothing is copied but what is about to change, so a step that succeeds pays next to
// nothing.
package undo

// Log holds the notes of the steps that are open. Its zero value, and nil, have none open. It is not safe for
// concurrent use: the goroutine that applies the log has it for itself.
type Log struct {
	back []func()
	open int
}

// Open reports whether a step is open: only then is there a need for notes.
func (l *Log) Open() bool { return l != nil && l.open > 0 }

// Note adds how to take back the change that follows. Without an open step it is forgotten: the change is there to
// stay.
func (l *Log) Note(back func()) {
	if l.Open() {
		l.back = append(l.back, back)
	}
}

// Begin opens a step, inside of the one that is open if there is one, and returns the mark to roll it back to.
func (l *Log) Begin() (mark int) {
	l.open++
	return len(l.back)
}

// Rollback takes back what was noted since the mark. The step stays open.
func (l *Log) Rollback(mark int) {
	for i := len(l.back) - 1; i >= mark; i-- {
		l.back[i]()
	}
	l.truncate(mark)
}

// End closes the step that was opened last. The changes of the outermost one are there to stay.
func (l *Log) End() {
	if l.open--; l.open == 0 {
		l.truncate(0)
	}
}

// truncate forgets the notes behind n, and lets go of what they hold.
func (l *Log) truncate(n int) {
	clear(l.back[n:])
	l.back = l.back[:n]
}

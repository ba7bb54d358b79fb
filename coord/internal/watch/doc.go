// Package watch delivers the changes of one keyspace to those who watch it: the Watch service of the etcd v3 API and
// subscribers inside the process.
//
// # Who runs what
//
//	apply goroutine      Hub.Applied, Hub.Recovered: append to the hub's mailbox, never block
//	hub goroutine        owns all state of the watchers; runs the mailbox's tasks in order: commits, requests, scans
//	scan goroutine       reads history from the store for watchers that are behind, one bounded chunk at a time
//	per stream, two      the gRPC handler, which sends, and a receiver, which turns requests into tasks
//
// There is no goroutine, channel or timer per watcher.
//
// # The three states of a watcher
//
//	synced   It was offered every event up to Hub.revision and none after it. It has no cursor, only stands in an
//	         index by key; a commit touches the watchers it matches and no others.
//	behind   It needs the history from its cursor on. Chunks come from the commits kept in memory where these reach
//	         back far enough, else from the store, and one chunk serves every watcher whose cursor lies in it.
//	parked   It is behind, and its stream's buffer is full because the client does not read. It costs nothing until
//	         the client has read half of the buffer; then it is behind.
//
// Because requests travel through the same mailbox as commits, a request is answered at one well-defined revision:
// every commit before it was offered to the synced watchers, no commit after it. That makes the following exact without
// locks: a watcher created without a start revision sees precisely the revisions after the one in its created response;
// a progress notification at revision r comes after all events up to r and before any later one; a watcher that was
// behind joins the synced ones when its cursor passes Hub.revision, with no gap and no repetition. A chunk read from a
// view newer than Hub.revision is cut off there, so that nobody runs ahead.
//
// # What is bounded
//
// The mailbox holds a bounded number of bytes of events. When the hub goroutine falls that far behind the apply
// goroutine, the events are dropped, all synced watchers are behind from the first dropped revision and read the rest
// from the store; subscribers are told of a gap. The same happens when a snapshot replaces the store. A stream's buffer
// is bounded too, so a slow client costs its own watchers only.
package watch

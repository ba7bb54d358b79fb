// Package hold has the verbs that hold something for as long as a command runs, or until a signal: lock, elect, rwlock,
// semaphore and "barrier enter". All are one contention, which differs in how it enters the queue and in what the
// command gets to know.
package hold

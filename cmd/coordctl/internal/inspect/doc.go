// Package inspect has the verbs that look at sessions and queues, or change them from outside: sessions, locks,
// elections, why and deadlocks, and ls, show and release of each kind of queue for the commands of that kind. They ask
// the service Introspection.
package inspect

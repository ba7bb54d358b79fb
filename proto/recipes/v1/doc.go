// Package recipesv1 holds the requests and responses of the procedures of package recipes. The requests are part of the
// Raft log.
package recipesv1

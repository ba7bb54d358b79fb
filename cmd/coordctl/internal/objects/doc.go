// Package objects has the verbs of what is one key and that nobody holds: counters, sequences, latches, groups, and the
// barriers that somebody closes and opens.
package objects

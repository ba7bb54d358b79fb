// Package completion completes command lines in a shell: it asks the cluster for the names that can stand where an
// argument begins. It has "coordctl completion", which writes the script of a shell.
package completion

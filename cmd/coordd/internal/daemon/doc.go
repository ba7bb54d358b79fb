// Package daemon is what coordd does around a server: it reads flags and environment, starts the server, and stops it
// when it is told to.
package daemon

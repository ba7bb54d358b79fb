//go:build unix

// Command fencing shows why a lock alone does not protect a file, and that a fencing token does.
//
//	go run ./docs/fencing
//
// Two processes, Alice and Bob, add a line each to a file that an HTTP server keeps: they take a lock, read the file, and
// write it back with their line. Between reading and writing, Alice is stopped with SIGSTOP for longer than the TTL of her
// session, as a pause of a runtime, a swapping machine or a suspended one would do. Coord gives the lock to Bob, as it
// must, and then Alice goes on: with what she read before, in the belief that she holds the lock. No check on her side helps,
// because she may be stopped right behind it.
//
// The story is told three times: the file's server takes what it gets; it refuses a token that is smaller than one it has
// seen; it asks coord whether the token holds now. The server of coord is a real one, in this process.
package main

import (
	"context"
	"fmt"
	"os"
)

func main() {
	if spec, ok := os.LookupEnv(workerEnv); ok {
		exit(work(context.Background(), spec))
	}
	exit(tellAll(context.Background(), os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fencing:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

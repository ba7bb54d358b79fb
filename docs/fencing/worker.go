//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/fence"
)

// workerEnv, where it is set, makes a worker of this program and holds its workerSpec.
const workerEnv = "COORD_FENCING_WORKER"

type workerSpec struct {
	Name, Coord, File string
	TTL               time.Duration
}

// patience bounds every wait for what must happen.
const patience = 30 * time.Second

// What a worker says, one a line, in this order. Between saidRead and the write it waits for a line on its standard input:
// there it can be stopped.
const (
	saidRead     = "read"
	saidWrote    = "wrote"
	saidRefused  = "refused" // and why
	saidFailed   = "failed:" // and why
	saidReleased = "released"
)

// work adds the worker's name to the file, under the lock.
func work(ctx context.Context, encoded string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var spec workerSpec
	if err := json.Unmarshal([]byte(encoded), &spec); err != nil {
		return err
	}
	c, err := client.New(client.Config{Endpoints: []string{spec.Coord}, SessionTTL: spec.TTL, Owner: spec.Name})
	if err != nil {
		return err
	}
	defer c.Close()
	held, err := c.Lock(lockName).Acquire(ctx)
	if err != nil {
		return err
	}
	ctx = fence.WithToken(ctx, fence.Of(held)) // the token goes with each request; whether anybody looks at it is up to the server
	text, err := readFile(ctx, spec.File)
	if err != nil {
		return err
	}
	fmt.Println(saidRead, held.Token())
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	// A real program would check here that it still holds, and could be stopped right behind the check.
	if err := writeFile(ctx, spec.File, text+spec.Name+"\n"); err != nil {
		fmt.Println(saidRefused, err)
	} else {
		fmt.Println(saidWrote)
	}
	if err := held.Release(ctx); err != nil {
		fmt.Println(saidFailed, err)
		return nil
	}
	fmt.Println(saidReleased)
	return nil
}

package stream

import (
	"testing"
	"testing/synctest"
)

// The receiver waits until there is room, by number and by bytes; a frame that is larger than all room goes alone.
func TestFlowHoldsTheReceiverBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(10, 1000, nil)
		f.acquire(20, 5000)
		took := 0
		go func() {
			for _, bytes := range []int{900, 200} {
				f.acquire(4, bytes)
				took++
			}
		}()
		for i, want := range []int{0, 1, 2} {
			synctest.Wait()
			if took != want {
				t.Fatalf("after %d answers %d frames were taken, want %d", i, took, want)
			}
			f.release([]int{20, 4, 4}[i], []int{5000, 900, 200}[i])
		}
		if !f.idle() {
			t.Error("something is still under way")
		}
		f.acquire(10, 1)
		ended := make(chan bool)
		go func() { ended <- f.acquire(1, 1) }()
		synctest.Wait()
		f.close()
		if <-ended {
			t.Error("a stream that has ended took another frame")
		}
	})
}

// Package fence enforces fencing tokens outside of coord: a resource that a lock protects refuses requests whose token
// is not the holder's any more. Without it a lock is advisory: a holder that was stopped for longer than its TTL
// believes that it holds when it wakes up.
//
// The caller attaches its token, and the resource checks it:
//
//	// caller
//	ctx = fence.WithToken(ctx, fence.Of(held))          // held: *client.Held
//	conn, err := grpc.NewClient(target, grpc.WithUnaryInterceptor(fence.UnaryClientInterceptor()))
//
//	// resource
//	grpc.NewServer(grpc.UnaryInterceptor(fence.UnaryServerInterceptor(fence.NewMaxSeen("job"))))
//	http.Handle("/", fence.Handler(fence.Ask(client, "job"), next))
//
// Two checkers: MaxSeen needs nothing but memory, and refuses a token that is smaller than the largest one seen; it
// stops a stale holder from the first request of its successor on. Ask asks coord at each request whether the token
// holds now; it stops a stale holder at once, and costs a read. Neither makes the check and the effect one step: a
// resource that can, stores the largest token beside what it protects, in the same transaction (see MaxSeen for the
// rule).
package fence

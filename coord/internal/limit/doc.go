// Package limit bounds what one member holds in memory for all of its clients together.
//
// A Pool counts one kind of thing: watchers, channels, requests without an answer, responses that wait for their
// client. Each client's connection or stream is a Holder of the pool. Below half of the bound everybody gets what it
// asks for. From there on whoever holds more than a fair share is refused, where the share is half of the bound,
// divided by those who hold anything: so one client that takes all it can get leaves the other half to the others.
// Nothing exceeds the bound but what cannot be refused any more, see Force.
//
// These are a member's own limits: the state machine knows nothing of them. What the replicated state holds for clients
// (sessions, outcomes) is bounded there, see package statemachine.
package limit

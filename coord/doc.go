// Package coord is one member of a coord cluster: it puts together the replicated log, the state machine, the lease
// clock, the watch hub and the services, and starts and stops them in the right order.
//
// # Who runs which goroutine
//
//	coord      Server.run            what ends the member: removal, a refused directory, a signal through Stop
//	           Server.publish        writes this member's attributes into the log, then says that it is ready; ends
//	           Server.refresh        keeps what is known of the members up to date
//	           announce              makes the data directory known to every peer; ends
//	           watchdog              looks at the free disk space
//	           netlimit, http, grpc  serve clients on the client port
//	leaseclock Runner.Run            proposes ticks while this member leads
//	propose    Proposer.run          forms log entries and proposes them
//	watch      Hub                   two, see there; two for each watch stream
//	host       Host                  Dragonboat's
//	group      Group                 five for each raft group
//	recipesvc  Service               see coord/internal/recipesvc
//	stream     stream                four for each native stream, and one for each channel in it
//
// The apply goroutine is Dragonboat's. It calls the state machine, which tells the observers in a fixed order: lease
// clock, native streams, watch hub, members, proposer. Whoever waits for a result therefore finds everything else up to
// date.
package coord

// Package layout says where the things that have names stand in the keyspace: it maps a kind and a name to the ranges
// of their keys, and a key back to the kind, the name and the part that it is. It is the only place that knows; the
// server, the SDK and coordctl ask it, and a test at the top of the repository finds keys that somebody else puts
// together. What the values mean is said where they are written.
//
// In etcd's layout, where etcd's own clients take part:
//
//	<name>/<lease>[.<owner id>]                    who holds or waits for a lock, or an election without priorities:
//	                                               both have one queue
//	<name>/<anything>                              counts in that queue, too
//	<service>/<address>                            the endpoint of an instance, for etcd's naming/endpoints: layouts
//	                                               that meet, see Service
//
// Reserved, where only procedures write:
//
//	_coord/elections/<name>/<lease>[.<owner id>]   a candidate of an election with priorities: recipesv1.Candidate
//	_coord/elections/<name>/leader                 who leads it: recipesv1.Leader; of no lease
//	_coord/rwlocks/<name>/<lease>[.<owner id>]     a reader or a writer: recipesv1.Member
//	_coord/rwlocks/<name>/tally                    how many there are, and hold: recipesv1.Tally; of no lease
//	_coord/semaphores/<name>/<lease>[.<owner id>]  who holds or wants permits: recipesv1.Member
//	_coord/semaphores/<name>/tally                 likewise
//	_coord/semaphores/<name>/limit                 how many permits there are: recipesv1.SemaphoreState; of no lease
//	_coord/barriers/<name>/<lease>[.<owner id>]    a party: recipesv1.Member
//	_coord/barriers/<name>/state                   whether it is open: coordv1.BarrierState; of no lease
//	_coord/asks/<key of an entry>                  the holder is asked to release: recipesv1.Ask; of the holder's
//	                                               lease
//	_coord/transfers/<queue>                       what the last transfer did: recipesv1.Transfer; of no lease
//	_coord/counters/<name>                         recipesv1.Counter
//	_coord/sequences/<name>                        recipesv1.Sequence
//	_coord/latches/<name>                          recipesv1.Latch
//	_coord/gates/<name>                            recipesv1.Gate, of the closer's lease if the gate is bound to it;
//	                                               closed while it exists
//	_coord/groups/<name>/<member>                  the member's data as it is, of the lease of the member's session
//	_coord/services/<service>/instances/<id>       coordv1.ServiceInstance, of its lease; service and id are escaped,
//	                                               as in URLs
//	_coord/services/<service>/orders/<id>          coordv1.ServiceOrder: what an operator wants of it
//	_coord/services/<service>/probes/<id>          coordv1.ServiceProbed: what the cluster's probe of it found
//	_coord/config/<bundle>/current                 coordv1.ConfigVersion; bundle and client are escaped, as in URLs
//	_coord/config/<bundle>/versions/<number>       each version that is kept; 16 hex digits
//	_coord/config/<bundle>/schemas                 coordv1.ConfigSchemas
//	_coord/config/<bundle>/status/<client>         coordv1.ConfigStatus
//
// A queue is named by the key its entries stand directly below: the name in etcd's layout, else the directory of its
// kind and the name.
//
// # Which ranges overlap
//
// Names of queues and of groups nest, and so do the addresses of services in etcd's layout: the range of a contains
// that of a/b. Each key belongs to one name all the same, the longest: all before its last slash. The names of all else
// have ranges of their own. Of two kinds only locks, elections and services share keys, those in etcd's layout.
package layout

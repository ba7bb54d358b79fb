// Package coordv1 is the public native API: the Lock, Election and Config services, for any language with gRPC. The
// .proto files are the contract; the Go code is generated from them.
package coordv1

// Package config shares configuration: it follows a bundle of documents, and publishes, compares and brings back
// versions.
//
//	limits, err := config.Watch[Limits](ctx, client, "svc/a",
//		config.Validate(Limits.Check), config.Copy("/var/lib/a/limits"))
//	...
//	if n > limits.Load().MaxConnections { … } // an atomic load
//
// A bundle is a named set of documents, published as one version in one transaction at one revision. Who follows it
// gets whole versions, never a mixture of two.
//
// # What Watch promises
//
//   - Load always returns a value that was published, decoded and, where there is a Validate, found good. A version
//     that fails changes nothing: the value before it stays, Err says why, and so does the client's status in the
//     store.
//   - Value and Err change together: once a version is to be seen, the refusal of an earlier one is not.
//   - The value never goes back: a version of an earlier revision is not taken for one of a later. (A store with
//     another cluster id is another history, which is followed.)
//   - It never freezes: after any error of the watch, a compaction included, the bundle is read anew within 2 s plus
//     the time of a request; and even if a watch is silently dead, a read every Refresh (30 s) finds what it did not
//     tell.
//   - Versions that follow each other quickly may be skipped; the last one is not.
//   - With Copy the last good version is kept in a file, so that a process can start while the cluster is down. Such a
//     value is Stale until the cluster confirms it.
//
// It does not promise that all processes change over at one instant, nor that a change arrives while the cluster cannot
// be reached: then Load goes on answering, and Stale turns true after twice Refresh.
//
// # Formats
//
// The extension of a document's name says its format. A protobuf message is read from .json (protojson), .yaml and .yml
// (the same, as YAML), .txtpb and .textproto; any other extension is the binary encoding. Other types are read from
// .yaml and .yml with their json tags (see sigs.k8s.io/yaml), and from anything else as JSON, except []byte and string,
// which get the contents as they are unless the extension is one of JSON or YAML. Unknown fields are passed over, as
// encoding/json does, so that a version can be published before all its readers know it.
//
// # Where it stands
//
// proto/coord/v1/config.proto lists the keys, all below _coord/config/, and the service that checks what is published:
//
//	_coord/config/BUNDLE/current           the current version; what Watch watches
//	_coord/config/BUNDLE/versions/NUMBER   each version that is kept
//	_coord/config/BUNDLE/schemas           the JSON Schemas of the documents
//	_coord/config/BUNDLE/status/CLIENT     what a client has made of it; see Report
//
// BUNDLE and CLIENT are path-escaped, NUMBER has 16 digits of hex; the values are the messages of that proto.
//
// This package is apart from package client, because it brings a YAML library along.
package config

package coordv1

// MetadataShard is the key of a call's metadata that names the keyspace it is about, by the number of its shard in
// decimal digits: of etcd's API, the unary recipes and the native stream, which says it in its Hello again. Who says
// nothing means shard 1, who names several is refused.
const MetadataShard = "coord-shard"

// Package etcdverbs makes etcdctl's commands coordctl's: they are etcd's own cobra commands, so their flags, output and
// exit codes are etcdctl's; their help calls the program by our name, and what destroys asks first.
package etcdverbs

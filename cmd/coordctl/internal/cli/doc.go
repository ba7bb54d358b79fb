// Package cli is what all commands of coordctl share: the global flags and what becomes of them, the connection, how
// they print and ask, and what coordctl exits with. A command is a function that gets what it needs already opened:
// SDKVerb makes one that works with package client, WithEtcd one that works with etcd's client.
package cli

// Package exampletest shows and tests package registry and its resolver against real servers, coord's and etcd's.
// Nobody imports it, so that the users of the registry do not get the servers' dependencies.
package exampletest

// Package exampletest shows and tests package client against real servers. It is apart from client, and nobody imports
// it, so that the users of client do not get the server's dependencies.
package exampletest

// Package configtest shows and tests package config against real servers. It is apart from config, and nobody imports
// it, so that the users of config do not get the server's dependencies.
package configtest

// Package top has "coordctl top": pictures of a cluster, one after the other. A lookout asks the cluster, a picture is
// what it saw, a section what people read of it, and a screen the terminal.
package top

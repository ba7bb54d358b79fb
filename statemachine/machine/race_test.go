//go:build race

package machine_test

// The race detector makes the model test ten times as slow: it looks for races there, and for differences elsewhere.
const defaultModelRuns = 5

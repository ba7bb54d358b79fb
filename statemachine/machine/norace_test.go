//go:build !race

package machine_test

const defaultModelRuns = 16

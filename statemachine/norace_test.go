//go:build !race

package statemachine_test

const defaultModelRuns = 16

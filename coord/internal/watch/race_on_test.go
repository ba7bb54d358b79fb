//go:build race

package watch

const raceEnabled = true // the race detector makes memory and time meaningless

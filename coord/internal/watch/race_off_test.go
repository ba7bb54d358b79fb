//go:build !race

package watch

const raceEnabled = false // see the other file

//go:build race

package dataplane

// raceEnabled: the race detector makes everything many times slower.
const raceEnabled = true

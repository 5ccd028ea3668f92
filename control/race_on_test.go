//go:build race

package control

// raceEnabled: the race detector makes everything many times slower.
const raceEnabled = true

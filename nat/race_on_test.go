//go:build race

package nat

// raceEnabled: the race detector makes everything many times slower.
const raceEnabled = true

//go:build race

package compile

// The race detector makes everything ten times slower.
const (
	defaultPairs     = 100_000
	defaultSequences = 10
)

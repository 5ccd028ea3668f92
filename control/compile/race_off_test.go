//go:build !race

package compile

const (
	defaultPairs     = 1_000_000
	defaultSequences = 60
)

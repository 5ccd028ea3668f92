package peer

import (
	"errors"
	"testing"

	"ringway/bench/chain"
)

// One row: it does not tell them apart, and takes seconds to start.
func TestTestpmdCarries(t *testing.T) {
	dut, err := NewTestpmd()
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	carries(t, dut, plain64, chain.Split)
}

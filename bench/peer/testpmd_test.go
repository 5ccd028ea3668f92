package peer

import (
	"errors"
	"testing"

	"ringway/bench/chain"
	"ringway/internal/netnstest"
)

// One row: it does not tell them apart, and takes seconds to start.
func TestTestpmdCarries(t *testing.T) {
	netnstest.Root(t)
	dut, err := NewTestpmd()
	if errors.Is(err, ErrMissing) {
		t.Fatalf("%v: `make setup` installs it", err)
	}
	carries(t, dut, plain64, chain.Split)
}

package peer

import (
	"errors"
	"testing"

	"ringway/bench/chain"
)

func TestTestpmdCarriesEveryRow(t *testing.T) {
	dut, err := NewTestpmd()
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	carries(t, dut, chain.Split)
}

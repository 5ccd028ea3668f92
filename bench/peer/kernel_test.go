package peer

import (
	"testing"

	"ringway/bench/chain"
)

func TestKernelCarriesEveryRow(t *testing.T) { carriesRows(t, NewKernel(), chain.OneCore) }

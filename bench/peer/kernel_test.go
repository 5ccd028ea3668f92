package peer

import (
	"strings"
	"testing"

	"ringway/bench/chain"
)

func TestKernelCarriesEveryRow(t *testing.T) {
	carriesRows(t, NewKernel(), chain.OneCore)
}

func TestKernelMasquerades(t *testing.T) { masquerades(t, NewKernel(), chain.OneCore) }

// A machine on which the kernel cannot masquerade so many flows is no error.
func TestKernelThatCannotMasquerade(t *testing.T) {
	l := chain.Layout{Name: chain.OneCore}
	traffic := chain.Traffic{Row: chain.Masquerade, Size: 64, Flows: 1}
	if why := conntrackTooSmall("65536", 100_000); why != "net.netfilter.nf_conntrack_max is 65536: raise it to 200000" {
		t.Errorf("too many flows: %q", why)
	}
	if why := conntrackTooSmall("200000", 100_000); why != "" {
		t.Errorf("room for all: %q", why)
	}
	t.Setenv("PATH", t.TempDir())
	if why := Unfit(KernelName, traffic, l); !strings.Contains(why, "nft is missing") {
		t.Errorf("without nft: %q", why)
	}
	traffic.Row = chain.Forward
	if why := Unfit(KernelName, traffic, l); why != "" {
		t.Errorf("forward: %q", why)
	}
}

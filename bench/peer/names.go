package peer

import (
	"errors"
	"fmt"

	"ringway/bench/chain"
)

// Names of the devices under test.
const (
	KernelName  = "kernel"
	RingwayName = "ringway"
	LimitName   = "limit"
	TestpmdName = "testpmd"
)

// ErrMissing is wrapped by New when this machine does not have a candidate.
var ErrMissing = errors.New("not measured")

// Names lists all devices under test. Each is compared with its neighbours.
func Names() []string { return []string{KernelName, RingwayName, LimitName, TestpmdName} }

// New makes a device under test. agent is the path of the ringway binary.
func New(name, agent string) (chain.DUT, error) {
	switch name {
	case KernelName:
		return NewKernel(), nil
	case RingwayName:
		return NewRingway(agent), nil
	case LimitName:
		return NewLimit(), nil
	case TestpmdName:
		return NewTestpmd()
	}
	return nil, fmt.Errorf("device under test %q: must be one of %v", name, Names())
}

// Unfit says where a device under test has no figure, and why; "": it has one for
// this traffic in this layout.
func Unfit(name string, t chain.Traffic, l chain.Layout) string {
	why := ""
	switch {
	case t.Row == chain.NewFlows && (name == LimitName || name == TestpmdName):
		return fmt.Sprintf("in row %s: it keeps no flows", t.Row)
	case t.Row.Redirects() && (name == LimitName || name == TestpmdName):
		return fmt.Sprintf("in row %s: it has no pods", t.Row)
	case name == KernelName && !l.Shared():
		why = "it forwards on the CPU that receives, so it would have none of its own"
	case name == KernelName && (t.Row.Masquerades() || t.Row.Redirects()):
		if why := unfitToTranslate(t.Flows); why != "" {
			return fmt.Sprintf("in row %s with %d flows: %s", t.Row, t.Flows, why)
		}
	case name == TestpmdName && l.Shared():
		why = "it spins, and would starve the kernel thread that feeds it"
	}
	if why == "" {
		return ""
	}
	return fmt.Sprintf("in layout %s: %s", l.Name, why)
}

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

// Unfit says why a device under test has no figure in a layout; "": it has.
func Unfit(name string, l chain.Layout) string {
	switch {
	case name == KernelName && !l.Shared():
		return "it forwards on the CPU that receives, so it would have none of its own"
	case name == TestpmdName && l.Shared():
		return "it spins, and would starve the kernel thread that feeds it"
	}
	return ""
}

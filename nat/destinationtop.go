package nat

import (
	"cmp"
	"math/bits"
	"slices"
)

// Destination says how many flows go to one destination from one SNAT address.
// As many of the address's ports are taken towards it.
type Destination struct {
	Addr  uint32 // host byte order
	Port  uint16 // 0 for ICMP
	Class Class
	Index int // of the SNAT address, in Owners
	Flows int // closed ones among them
}

// topBound is how many destinations TopDestinations looks at.
const topBound = 4096

// TopDestinations gives the n destinations with the most flows, the first with the
// most. It looks at 4096 at the most, those first that have twice as many flows as
// others, so that with more of about the same size it may miss some.
func (a *Allocator) TopDestinations(n int) []Destination {
	var all []Destination
	for size := len(a.bySize) - 1; size > 0 && len(all) < n; size-- {
		for d := a.bySize[size]; d != 0 && len(all) < topBound; {
			r := a.destinations.at(d)
			all = append(all, Destination{
				Addr: r.addr, Port: r.port, Class: Class(r.pool % Classes), Index: int(r.pool / Classes), Flows: int(r.flows),
			})
			d = r.sizeNext
		}
	}
	slices.SortFunc(all, func(x, y Destination) int {
		return cmp.Or(cmp.Compare(y.Flows, x.Flows), cmp.Compare(x.Addr, y.Addr), cmp.Compare(x.Port, y.Port),
			cmp.Compare(x.Class, y.Class), cmp.Compare(x.Index, y.Index))
	})
	return all[:min(n, len(all))]
}

// listSize puts a destination among those whose number of flows has as many bits.
// One without flows is not listed.
func (a *Allocator) listSize(d uint32) {
	r := a.destinations.at(d)
	if r.flows == 0 {
		return
	}
	head := &a.bySize[bits.Len32(r.flows)]
	r.sizePrev, r.sizeNext = 0, *head
	if *head != 0 {
		a.destinations.at(*head).sizePrev = d
	}
	*head = d
}

func (a *Allocator) unlistSize(d uint32, size int) {
	if size == 0 {
		return
	}
	r := a.destinations.at(d)
	if r.sizePrev == 0 {
		a.bySize[size] = r.sizeNext
	} else {
		a.destinations.at(r.sizePrev).sizeNext = r.sizeNext
	}
	if r.sizeNext != 0 {
		a.destinations.at(r.sizeNext).sizePrev = r.sizePrev
	}
}

package object

import (
	"fmt"
	"net/netip"

	"ringway/control"
)

const (
	maxCIDRsOfPool = 1024
	minMaskSize    = 8
	maxMaskSize    = 30 // a longer one has no room for a gateway and a pod
)

var poolKind = Kind{
	Name: KindPool, Written: KindPool, APIVersion: ownVersion, Plural: "pools",
	shape: shapeOf[PoolSpec](),
	make:  func() Object { return &Pool{} },
}

// Pool is where nodes get their CIDRs from.
type Pool struct {
	Meta `json:"metadata"`
	Spec PoolSpec `json:"spec"`
}

// PoolSpec says what a pool has to give.
type PoolSpec struct {
	CIDRs    []string `json:"cidrs"`              // canonical IPv4 prefixes; used in this order, each from its lowest address on
	MaskSize int      `json:"maskSize"`           // bits of each node's CIDR, 8 to 30 and not shorter than any of CIDRs
	Disabled bool     `json:"disabled,omitempty"` // gives nothing any more; what nodes have stays theirs
}

// Kind is that of pools.
func (p *Pool) Kind() *Kind { return &poolKind }

func (p *Pool) spec() any { return p.Spec }

// Prefixes are the CIDRs of the pool.
func (p *Pool) Prefixes() []netip.Prefix { return prefixes(p.Spec.CIDRs) }

// prefixes leaves out what is none.
func prefixes(in []string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(in))
	for _, s := range in {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func (p *Pool) check(ps *problems) {
	switch n := len(p.Spec.CIDRs); {
	case n == 0:
		ps.add("spec.cidrs", "there is none", "write what nodes are to get their CIDRs from, as in [10.200.0.0/16]")
	case n > maxCIDRsOfPool:
		ps.add("spec.cidrs", fmt.Sprintf("%d are too many", n), fmt.Sprintf("keep to %d, by aggregating them", maxCIDRsOfPool))
		return
	}
	switch m := p.Spec.MaskSize; {
	case m == 0:
		ps.add("spec.maskSize", "missing", "write how many bits the CIDR of a node has, as in 24")
	case m < minMaskSize || m > maxMaskSize:
		ps.add("spec.maskSize", fmt.Sprintf("%d is out of range", m), fmt.Sprintf("choose %d to %d", minMaskSize, maxMaskSize))
	}
	p.checkCIDRs(ps)
}

func (p *Pool) checkCIDRs(ps *problems) {
	var seen []netip.Prefix
	for i, s := range p.Spec.CIDRs {
		if ps.full() {
			return
		}
		field := fmt.Sprintf("spec.cidrs[%d]", i)
		c, problem := control.ParseNodeCIDR(s)
		if problem != nil {
			ps.add(field, problem.Reason, problem.Remedy)
			continue
		}
		if c.Bits() > p.Spec.MaskSize && p.Spec.MaskSize >= minMaskSize {
			ps.add(field, fmt.Sprintf("%s is smaller than the /%d of one node", c, p.Spec.MaskSize), "give a larger one, or a longer maskSize")
		}
		for j, other := range seen {
			if c.Overlaps(other) {
				ps.add(field, fmt.Sprintf("%s overlaps %s, entry %d", c, other, j), "name each address once")
				break
			}
		}
		seen = append(seen, c)
	}
}

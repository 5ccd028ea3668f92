package nat

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// group is a run of rules that select the same packets by all but destination.
// Its destinations are one sorted list, in which each address leads to the first
// rule of the run that has it. The rules that are derived from defaults form one
// group, so that thousands of nonMasqueradeCIDRs cost one binary search.
type group struct {
	pods         bool
	uplink       uint16
	anyUplink    bool
	sources      []span // nil: any
	destinations []span
}

// span is a range of addresses, both ends included, and the rule that has them.
type span struct {
	low, high uint32
	rule      *Rule
}

func (g *group) selects(src uint32, fromPod bool, uplink uint16) bool {
	return (fromPod || !g.pods) &&
		(g.anyUplink || g.uplink == uplink) &&
		(g.sources == nil || find(g.sources, src) != nil)
}

func groupRules(rules []Rule, uplinks []string) []group {
	var groups []group
	var last *Rule // of the run that is being gathered
	for i := range rules {
		r := &rules[i]
		if r.Absent {
			continue
		}
		if last == nil || !sameSelector(&last.Spec, &r.Spec) {
			groups = append(groups, group{
				pods:      r.Spec.Pods,
				uplink:    uint16(max(0, slices.Index(uplinks, r.Spec.Uplink))),
				anyUplink: r.Spec.Uplink == "",
				sources:   disjoint(spans(r.Spec.Sources, r)),
			})
		}
		last = r
		g := &groups[len(groups)-1]
		if len(r.Spec.Destinations) == 0 {
			g.destinations = append(g.destinations, span{0, ^uint32(0), r})
		}
		g.destinations = append(g.destinations, spans(r.Spec.Destinations, r)...)
	}
	for i := range groups {
		groups[i].destinations = disjoint(groups[i].destinations)
	}
	return groups
}

func sameSelector(a, b *RuleSpec) bool {
	return a.Pods == b.Pods && a.Uplink == b.Uplink && slices.Equal(a.Sources, b.Sources)
}

func spans(prefixes []netip.Prefix, r *Rule) []span {
	out := make([]span, len(prefixes))
	for i, p := range prefixes {
		low := p.Masked().Addr().As4()
		out[i] = span{low: binary.BigEndian.Uint32(low[:]), rule: r}
		out[i].high = out[i].low | uint32(1<<(32-p.Bits())-1)
	}
	return out
}

// disjoint is in, sorted and without overlaps: each address goes to the rule of
// the lowest number that has it. The spans of in are prefixes, which nest or are
// disjoint; so the ones that hold an address form a stack.
func disjoint(in []span) []span {
	if len(in) == 0 {
		return nil
	}
	slices.SortFunc(in, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(b.high, a.high))
	})
	var out, open []span
	next := uint64(0) // the first address that is not in out yet
	upTo := func(end uint64) {
		top := open[len(open)-1]
		if next < end {
			out = appendSpan(out, span{uint32(next), uint32(end - 1), top.rule})
		}
		next = end
	}
	closeBefore := func(low uint64) {
		for len(open) > 0 && uint64(open[len(open)-1].high) < low {
			upTo(uint64(open[len(open)-1].high) + 1)
			open = open[:len(open)-1]
		}
	}
	for _, s := range in {
		closeBefore(uint64(s.low))
		if len(open) > 0 {
			upTo(uint64(s.low))
			if outer := open[len(open)-1].rule; outer.Number < s.rule.Number {
				s.rule = outer
			}
		}
		next = uint64(s.low)
		open = append(open, s)
	}
	closeBefore(1 << 32)
	return out
}

// appendSpan joins s to the last span where they are one.
func appendSpan(out []span, s span) []span {
	if n := len(out); n > 0 && out[n-1].rule == s.rule && out[n-1].high+1 == s.low {
		out[n-1].high = s.high
		return out
	}
	return append(out, s)
}

// find is the rule of the span that holds a, nil if none does. in is sorted and
// disjoint.
func find(in []span, a uint32) *Rule {
	low, high := 0, len(in) // in[:low] begin at or below a, in[high:] above it
	for low < high {
		mid := int(uint(low+high) / 2)
		if in[mid].low <= a {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 || in[low-1].high < a {
		return nil
	}
	return in[low-1].rule
}

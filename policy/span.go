package policy

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// span is the numbers from first to last. They are wider than what they hold, so
// that one more than the last is a number, too.
type span struct{ first, last uint64 }

func spanOf(p netip.Prefix) span {
	a := p.Masked().Addr().As4()
	first := uint64(binary.BigEndian.Uint32(a[:]))
	return span{first, first + 1<<(32-p.Bits()) - 1}
}

// spans is the addresses of a block, without those in its holes.
func (b *Block) spans() []span {
	holes := make([]span, len(b.Except))
	for i, p := range b.Except {
		holes[i] = spanOf(p)
	}
	slices.SortFunc(holes, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	whole := spanOf(b.CIDR)
	var out []span
	next := whole.first
	for _, h := range holes {
		if h.last < next {
			continue // inside another hole, or in front of the block
		}
		if h.first > whole.last {
			break
		}
		if h.first > next {
			out = append(out, span{next, h.first - 1})
		}
		next = h.last + 1
	}
	if next <= whole.last {
		out = append(out, span{next, whole.last})
	}
	return out
}

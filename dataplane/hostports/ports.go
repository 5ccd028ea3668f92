package hostports

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Range is the ports First to Last, both included.
type Range struct{ First, Last uint16 }

// Ports is a set of ports; the zero value is empty. It takes 8 KiB.
type Ports [1 << 16 / 64]uint64

// Has says whether port is in the set.
func (p *Ports) Has(port uint16) bool { return p[port/64]>>(port%64)&1 != 0 }

// Add puts port into the set.
func (p *Ports) Add(port uint16) { p[port/64] |= 1 << (port % 64) }

// Count is the number of ports in the set, 0 to 65536.
func (p *Ports) Count() int {
	n := 0
	for _, word := range p {
		n += bits.OnesCount64(word)
	}
	return n
}

// portsOf is the union of ranges. One whose Last is before First is empty.
func portsOf(ranges []Range) Ports {
	var p Ports
	for _, r := range ranges {
		for port := int(r.First); port <= int(r.Last); port++ {
			p.Add(uint16(port))
		}
	}
	return p
}

func (p Ports) union(q Ports) Ports {
	for i := range p {
		p[i] |= q[i]
	}
	return p
}

func (p Ports) minus(q Ports) Ports {
	for i := range p {
		p[i] &^= q[i]
	}
	return p
}

// ranges is the set as the fewest ranges, ascending.
func (p *Ports) ranges() []Range {
	var ranges []Range
	for port := 0; port < 1<<16; port++ {
		if !p.Has(uint16(port)) {
			continue
		}
		first := port
		for port+1 < 1<<16 && p.Has(uint16(port+1)) {
			port++
		}
		ranges = append(ranges, Range{uint16(first), uint16(port)})
	}
	return ranges
}

// String is the set in the kernel's notation of port lists: "22,49152-65535".
func (p *Ports) String() string {
	var b strings.Builder
	for i, r := range p.ranges() {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(r.First)))
		if r.Last > r.First {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(int(r.Last)))
		}
	}
	return b.String()
}

// parsePorts reads the kernel's notation of port lists.
func parsePorts(text string) (Ports, error) {
	var p Ports
	text = strings.TrimSpace(text)
	if text == "" {
		return p, nil
	}
	for item := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return p, fmt.Errorf("%q is no port or range of ports: %w", item, err)
		}
		last, err := strconv.ParseUint(to, 10, 16)
		if err != nil {
			return p, fmt.Errorf("%q is no port or range of ports: %w", item, err)
		}
		if last < first {
			return p, fmt.Errorf("the range of ports %q ends before it begins", item)
		}
		for port := first; port <= last; port++ {
			p.Add(uint16(port))
		}
	}
	return p, nil
}

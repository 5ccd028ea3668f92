package policy

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// decideSlowly is what Table.Decide has to say, read off the rules one by one.
func decideSlowly(d *Direction, f flow) (allow bool, rule int) {
	if d == nil {
		return true, -1
	}
	for i := range d.Rules {
		r := &d.Rules[i]
		if takesPeer(r, f) && takesPort(r, f) {
			return r.Action == Allow, i
		}
	}
	return !d.DefaultDeny, -1
}

// flow is the arguments of Decide.
type flow struct {
	identity, addr uint32
	proto          uint8
	port           uint16
	hasPort        bool
}

func (f flow) String() string {
	return fmt.Sprintf("identity %d address %s protocol %d port %d (%t)", f.identity, address(f.addr), f.proto, f.port, f.hasPort)
}

func address(a uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a)
	return netip.AddrFrom4(b)
}

func takesPeer(r *Rule, f flow) bool {
	if r.NoPeer {
		return false
	}
	if len(r.Identities) == 0 && len(r.Blocks) == 0 {
		return true
	}
	return slices.Contains(r.Identities, f.identity) || slices.ContainsFunc(r.Blocks, func(b Block) bool {
		a := address(f.addr)
		return b.CIDR.Contains(a) && !slices.ContainsFunc(b.Except, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

func takesPort(r *Rule, f flow) bool {
	if len(r.Ports) == 0 {
		return true
	}
	return f.hasPort && slices.ContainsFunc(r.Ports, func(p Port) bool {
		return p.Proto == f.proto && p.Low <= f.port && f.port <= p.High
	})
}

// dice makes directions and flows that meet each other often: all of them use few
// identities, addresses and ports, those at the ends among them.
type dice struct{ *rand.Rand }

func (d dice) direction() *Direction {
	if d.IntN(20) == 0 {
		return nil
	}
	out := &Direction{DefaultDeny: d.IntN(2) == 0}
	sizes := []int{0, 1, 3, 8, 63, 64, 65, 130}
	for i := range sizes[d.IntN(len(sizes))] {
		out.Rules = append(out.Rules, d.rule(i))
	}
	return out
}

func (d dice) rule(i int) Rule {
	r := Rule{Name: fmt.Sprint(i), Action: Allow + Action(d.IntN(2)), NoPeer: d.IntN(10) == 0}
	for range d.IntN(3) {
		r.Identities = append(r.Identities, d.identity())
	}
	slices.Sort(r.Identities)
	for range d.IntN(3) {
		r.Blocks = append(r.Blocks, d.block())
	}
	for range d.IntN(3) {
		low := d.port()
		r.Ports = append(r.Ports, Port{Proto: d.proto(), Low: low, High: max(low, d.port())})
	}
	return r
}

func (d dice) identity() uint32 { return 256 + d.Uint32N(6) }
func (d dice) proto() uint8     { return []uint8{1, 6, 17, 132}[d.IntN(4)] }
func (d dice) port() uint16     { return []uint16{0, 1, 8, 79, 80, 81, 8080, 65534, 65535}[d.IntN(9)] }

// addr is one of 64 in each of a few places.
func (d dice) addr() uint32 {
	return []uint32{0, 10 << 24, 10<<24 | 1<<8, 1<<32 - 64}[d.IntN(4)] + d.Uint32N(64)
}

func (d dice) block() Block {
	bits := []int{0, 1, 8, 24, 26, 27, 28, 30, 31, 32}
	b := Block{CIDR: netip.PrefixFrom(address(d.addr()), bits[d.IntN(len(bits))]).Masked()}
	for range d.IntN(4) {
		hole := bits[d.IntN(len(bits))]
		b.Except = append(b.Except, netip.PrefixFrom(address(d.addr()), hole).Masked())
	}
	return b
}

func (d dice) flow() flow {
	f := flow{addr: d.addr(), proto: d.proto(), port: d.port(), hasPort: true}
	if d.IntN(3) > 0 {
		f.identity = d.identity()
	}
	if d.IntN(8) == 0 {
		f.proto, f.port, f.hasPort = 47, 0, false
	}
	return f
}

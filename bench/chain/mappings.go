package chain

import "fmt"

// mappings are the sources that flows were seen to leave with, since the chain
// was built. A NAT may choose a flow's port, but only once, and no other flow to
// the same destination has it.
type mappings struct {
	sources map[int]endpoint // by flow
	flows   map[outside]int
}

type endpoint struct {
	addr uint32
	port int
}

// outside is what the answers to a flow go by.
type outside struct {
	source endpoint
	dst    uint32
}

func newMappings() mappings {
	return mappings{sources: map[int]endpoint{}, flows: map[outside]int{}}
}

// see takes a frame into account, and says how it contradicts earlier ones.
func (m mappings) see(h flowHeaders) error {
	source := endpoint{h.src, h.srcPort}
	if before, ok := m.sources[h.flow]; ok && before != source {
		return fmt.Errorf("flow %d has source %#08x port %d, and had %#08x port %d before", h.flow, source.addr, source.port, before.addr, before.port)
	}
	out := outside{source, h.dst}
	if other, ok := m.flows[out]; ok && other != h.flow {
		return fmt.Errorf("flows %d and %d to one destination have the same source port %d", other, h.flow, h.srcPort)
	}
	m.sources[h.flow], m.flows[out] = source, h.flow
	return nil
}

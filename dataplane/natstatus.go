package dataplane

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ringway/conntrack"
	"ringway/nat"
	"ringway/packet"
)

// destinationsShown is how many destinations get nat lists.
const destinationsShown = 20

// natView is what a worker tells of its flows and ports, copied on its thread.
type natView struct {
	flows     conntrack.Counters
	length    int
	ports     [nat.Classes]nat.Counters
	delegated uint64 // flows whose port another worker holds
}

func (w *Worker) natView() natView {
	v := natView{flows: w.flows.Counters(), length: w.flows.Len(), delegated: w.delegated}
	for c := range nat.Class(nat.Classes) {
		v.ports[c] = w.ports.Counters(c)
	}
	return v
}

// NAT says how the ports of the SNAT addresses are used.
func (d *Dataplane) NAT() NATStatus {
	var s NATStatus
	d.mu.Lock()
	addresses, ranges := d.build.nat.addresses, d.build.nat.ranges
	d.mu.Unlock()
	for _, a := range addresses {
		for c := range nat.Class(nat.Classes) {
			s.Addresses = append(s.Addresses, d.natAddress(a, c, ranges[a.addr]))
		}
	}
	for _, w := range d.core.workers {
		v, err := d.ask(w)
		if err != nil {
			continue // status says so
		}
		// An allocator that has no port is not the end: another worker is asked.
		s.Refused += v.count.Drops[packet.NATPortsExhausted]
		for _, c := range v.nat.ports {
			s.QuotaRefused += c.QuotaRefused
			s.Overlapped += uint64(c.Overlapped())
		}
		s.Delegated += v.nat.delegated
		s.Destinations = append(s.Destinations, d.destinationsOf(w, addresses)...)
	}
	slices.SortFunc(s.Destinations, func(a, b NATDestination) int { return cmp.Compare(b.Flows, a.Flows) })
	s.Destinations = s.Destinations[:min(len(s.Destinations), destinationsShown)]
	return s
}

// destinationsOf are the destinations to which most ports of a worker are taken.
func (d *Dataplane) destinationsOf(w *Worker, addresses []snatAddress) (out []NATDestination) {
	ctx, cancel := context.WithTimeout(context.Background(), workerPatience)
	defer cancel()
	var top []nat.Destination
	if err := w.do(ctx, func() { top = w.ports.TopDestinations(destinationsShown) }); err != nil {
		return nil // status says so
	}
	for _, t := range top {
		out = append(out, NATDestination{
			Address: addressAt(addresses, t.Index), Protocol: t.Class.String(),
			Destination: netip.AddrPortFrom(addrOf(t.Addr), t.Port), Flows: t.Flows,
		})
	}
	return out
}

// addressAt is the SNAT address in a place of the table of port owners.
func addressAt(addresses []snatAddress, index int) netip.Addr {
	for _, a := range addresses {
		if a.index == index {
			return addrOf(a.addr)
		}
	}
	return netip.Addr{}
}

func (d *Dataplane) natAddress(a snatAddress, c nat.Class, ranges []nat.PortRange) NATAddress {
	n := d.core.ports.Count(a.index, c)
	s := NATAddress{Address: addrOf(a.addr), Protocol: c.String(), Free: n.Free, Used: n.Used, Held: n.Held}
	for _, r := range ranges {
		if s.Size == 0 || r.Low < s.Low {
			s.Low = r.Low
		}
		s.High = max(s.High, r.High)
		s.Size += int(r.High) - int(r.Low) + 1
	}
	s.Host = max(s.Size-n.Free-n.Used-n.Held, 0)
	return s
}

// Masquerade lists the effective rules in their order.
func (d *Dataplane) Masquerade() []MasqueradeRuleStatus {
	m := d.core.snapshot.Load().masq
	if m == nil {
		return nil
	}
	hits := make([]uint64, len(m.rules.Rules()))
	for _, w := range d.core.workers {
		v, err := d.ask(w)
		if err != nil || v.hits.rules != m.rules {
			continue
		}
		for i, n := range v.hits.flows {
			hits[i] += n
		}
	}
	var out []MasqueradeRuleStatus
	for i := range m.rules.Rules() {
		r := &m.rules.Rules()[i]
		out = append(out, MasqueradeRuleStatus{
			Number: i + 1, Name: r.Spec.Name, Sources: sourcesText(&r.Spec), Destinations: textOf(r.Spec.Destinations),
			Uplink: r.Spec.Uplink, Action: r.Spec.Action.String(), Addresses: addressesText(&r.Spec), Ports: r.Spec.Ports.String(),
			From: r.Spec.From, Flows: hits[i],
		})
	}
	return out
}

func sourcesText(s *nat.RuleSpec) []string {
	if len(s.Sources) == 0 {
		return []string{"pods"}
	}
	return textOf(s.Sources)
}

func addressesText(s *nat.RuleSpec) []string {
	switch {
	case s.Action != nat.ActionSNAT:
		return nil
	case len(s.Addresses) == 0:
		return []string{"uplink"}
	}
	return textOf(s.Addresses)
}

func textOf[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].String()
	}
	return out
}

// ruleHits counts the flows that each rule of a set has decided. The path adds to
// it once per flow.
type ruleHits struct {
	rules *nat.RuleSet
	flows []uint64
}

func (h *ruleHits) count(m *masquerade, r *nat.Rule) {
	if h.rules != m.rules {
		h.rules, h.flows = m.rules, make([]uint64, len(m.rules.Rules()))
	}
	h.flows[r.Number]++
}

func (h *ruleHits) clone() ruleHits { return ruleHits{h.rules, slices.Clone(h.flows)} }

// masqueradeStatus is the masquerading line of status. The lock is held.
func (d *Dataplane) masqueradeStatus(views map[uint8]workerView) MasqueradeStatus {
	s := MasqueradeStatus{
		Profile: d.cfg.IPMasqProfile, File: d.cfg.IPMasqFile, FileError: d.build.nat.file.problem,
	}
	if s.File == "" {
		s.Profile = ""
	}
	for _, v := range views {
		s.Refused += v.count.Drops[packet.NATPortsExhausted]
		s.QuotaRefused += v.count.Drops[packet.NATPortQuota]
	}
	m := d.build.nat.masq
	if m == nil {
		return s
	}
	s.Enabled, s.Rules, s.StrictEIM = true, len(m.rules.Rules()), m.strictEIM
	for _, a := range d.build.nat.addresses {
		for _, r := range d.build.nat.ranges[a.addr] {
			s.Addresses = append(s.Addresses, fmt.Sprintf("%s:%s%s", addrOf(a.addr), r, d.build.deviceOf(a.addr)))
		}
	}
	for _, r := range m.rules.Rules() {
		if r.Spec.Action == nat.ActionNone && !r.Absent {
			s.Excluded = append(s.Excluded, excluded(&r.Spec)...)
		}
	}
	return s
}

// excluded says what a rule leaves as it is, destination by destination.
func excluded(s *nat.RuleSpec) (out []string) {
	destinations := textOf(s.Destinations)
	if len(destinations) == 0 {
		destinations = []string{"anywhere"}
	}
	for _, d := range destinations {
		if len(s.Sources) > 0 {
			d += " from " + strings.Join(textOf(s.Sources), ", ")
		}
		if s.Uplink != "" {
			d += " by " + s.Uplink
		}
		out = append(out, fmt.Sprintf("%s (%s)", d, s.From))
	}
	return out
}

// deviceOf says which uplink has an address.
func (b *builder) deviceOf(a uint32) string {
	for i := range b.uplinks {
		if b.uplinks[i].Addr == a {
			return " (" + b.uplinks[i].Name + ")"
		}
	}
	return ""
}

// conntrackStatus sums up what the workers told.
func (d *Dataplane) conntrackStatus(views map[uint8]workerView) ConntrackStatus {
	s := ConntrackStatus{
		MaxFlows: d.cfg.MaxFlows, MemoryBytes: uint64(len(d.core.workers)) * uint64(conntrack.MemoryBytes(d.cfg.MaxFlows)),
		States: map[string]int{}, Recovered: d.recovered.flows, ColdStart: d.recovered.coldStart,
	}
	for _, v := range views {
		c := &v.nat.flows
		s.Flows += v.nat.length
		s.Created += c.Created
		s.Expired += c.Expired
		s.Reaped += c.Reaped
		s.Refused += c.Full
		s.Quota += c.OverQuota
		s.Fragments += int(v.count.Reassembling)
		for state, n := range c.Flows {
			if n > 0 && conntrack.State(state) != conntrack.StateNone {
				s.States[conntrack.State(state).String()] += int(n)
			}
		}
	}
	return s
}

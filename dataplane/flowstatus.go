package dataplane

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"ringway/conntrack"
	"ringway/packet"
)

// flowChunk is how many records of its table a worker looks at in one go for a
// listing: a few microseconds, so that a listing of a million flows stalls nobody.
const flowChunk = 256

// Flows calls yield for each flow that the filter selects, worker by worker, until
// it returns false. A flow that begins or ends meanwhile may be missed.
func (d *Dataplane) Flows(ctx context.Context, f FlowFilter, yield func(FlowStatus) bool) error {
	view, err := d.newFlowView(f)
	if err != nil {
		return err
	}
	for _, w := range d.core.workers {
		stopped, err := d.flowsOf(ctx, w, view, yield)
		if err != nil || stopped {
			return err
		}
	}
	return nil
}

func (d *Dataplane) flowsOf(ctx context.Context, w *Worker, view *flowView, yield func(FlowStatus) bool) (stopped bool, err error) {
	chunk := make([]FlowStatus, 0, flowChunk)
	for from := conntrack.ID(1); from != 0; {
		chunk = chunk[:0]
		err := w.do(ctx, func() {
			from = w.flows.Range(from, flowChunk, func(_ conntrack.ID, fl *conntrack.Flow) bool {
				if view.selects(fl) {
					chunk = append(chunk, view.show(w, fl))
				}
				return true
			})
		})
		if err != nil {
			return false, fmt.Errorf("list the flows of worker %d: %w", w.id, err)
		}
		for _, s := range chunk {
			if !yield(s) {
				return true, nil
			}
		}
	}
	return false, nil
}

// FlushFlows ends the flows that the filter selects, and says how many. Their next
// packets begin new ones.
func (d *Dataplane) FlushFlows(ctx context.Context, f FlowFilter) (int, error) {
	view, err := d.newFlowView(f)
	if err != nil {
		return 0, err
	}
	return d.endFlows(ctx, view.selects)
}

// endFlows removes the flows that are selected from all workers' tables.
func (d *Dataplane) endFlows(ctx context.Context, selected func(*conntrack.Flow) bool) (ended int, err error) {
	ids := make([]conntrack.ID, 0, endChunk)
	for _, w := range d.core.workers {
		for from := conntrack.ID(1); from != 0; {
			err := w.do(ctx, func() {
				ids = ids[:0]
				from = w.flows.Range(from, endChunk, func(id conntrack.ID, f *conntrack.Flow) bool {
					if selected(f) {
						ids = append(ids, id)
					}
					return true
				})
				for _, id := range ids {
					w.flows.Delete(id)
				}
			})
			if err != nil {
				return ended, fmt.Errorf("end flows of worker %d: %w", w.id, err)
			}
			ended += len(ids)
		}
	}
	return ended, nil
}

// endChunk is how many records a worker looks at in one go to end some of them.
const endChunk = 1024

// flowView says which flows are shown, and how.
type flowView struct {
	filter FlowFilter
	proto  uint8
	slot   uint32
	addr   uint32
	names  *portNames
	rules  map[uint32]string
}

func (d *Dataplane) newFlowView(f FlowFilter) (*flowView, error) {
	v := &flowView{filter: f, names: d.portNames(), rules: d.ruleNames()}
	if f.Protocol != "" {
		var ok bool
		if v.proto, ok = protocolNumber(f.Protocol); !ok {
			return nil, fmt.Errorf("protocol: %q is not known: write tcp, udp, icmp, sctp or a number from 0 to 255", f.Protocol)
		}
	}
	if f.Endpoint != "" {
		var ok bool
		if v.slot, ok = d.slotOf(f.Endpoint); !ok {
			return nil, fmt.Errorf("endpoint: there is no %q: see `ringway get endpoints`", f.Endpoint)
		}
	}
	if f.Address.IsValid() {
		if !f.Address.Is4() {
			return nil, fmt.Errorf("address: %s is no IPv4 address", f.Address)
		}
		v.addr = u32(f.Address)
	}
	return v, nil
}

func (v *flowView) selects(f *conntrack.Flow) bool {
	o, r := f.Original(), f.Reply()
	switch {
	case v.filter.Protocol != "" && o.Proto != v.proto,
		v.filter.Endpoint != "" && f.Owner() != v.slot,
		v.filter.SNAT && !f.Translated(),
		v.filter.Address.IsValid() && !slices.Contains([]uint32{o.Src, o.Dst, r.Src, r.Dst}, v.addr),
		v.filter.Port != 0 && !slices.Contains([]uint16{o.SrcPort, o.DstPort, r.SrcPort, r.DstPort}, v.filter.Port):
		return false
	}
	return true
}

func (v *flowView) show(w *Worker, f *conntrack.Flow) FlowStatus {
	s := FlowStatus{
		Worker: int(w.id), Protocol: protocolName(f.Original().Proto), Original: flowTuple(f.Original()), Reply: flowTuple(f.Reply()),
		SNAT: f.Translated(), State: f.State().String(), Rule: v.rules[f.Rule()],
		Expires: time.Duration(max(f.Deadline(w.now)-w.now, 0)), Age: time.Duration(w.now - f.Created()),
	}
	if f.Owner() != conntrack.NoOwner {
		s.Endpoint = v.names.endpoints(f.Owner())
	}
	s.Verdict, s.PolicyRule = w.policyOfFlow(f)
	s.OriginalPackets, s.OriginalBytes = f.Packets(conntrack.Original), f.Bytes(conntrack.Original)
	s.ReplyPackets, s.ReplyBytes = f.Packets(conntrack.Reply), f.Bytes(conntrack.Reply)
	return s
}

func flowTuple(t packet.Tuple) FlowTuple {
	return FlowTuple{Src: netip.AddrPortFrom(addrOf(t.Src), t.SrcPort), Dst: netip.AddrPortFrom(addrOf(t.Dst), t.DstPort)}
}

var protocolNames = map[uint8]string{packet.ProtoTCP: "tcp", packet.ProtoUDP: "udp", packet.ProtoICMP: "icmp", packet.ProtoSCTP: "sctp"}

func protocolName(proto uint8) string {
	if name, ok := protocolNames[proto]; ok {
		return name
	}
	return strconv.Itoa(int(proto))
}

func protocolNumber(s string) (uint8, bool) {
	for n, name := range protocolNames {
		if name == s {
			return n, true
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil
}

// ruleNames are the names of the rules in force by what flows remember of them.
func (d *Dataplane) ruleNames() map[uint32]string {
	names := map[uint32]string{}
	if m := d.core.snapshot.Load().masq; m != nil {
		for i, r := range m.rules.Rules() {
			names[m.ids[i]] = r.Spec.Name
		}
	}
	return names
}

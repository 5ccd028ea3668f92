package control

import (
	"net"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

// TableSet is the message of which Validate makes t.
func TableSet(t dataplane.Tables) *pb.TableSet {
	set := &pb.TableSet{
		Version:  t.Version,
		Routing:  string(t.Routing),
		Vxlan:    vxlan(t.VXLAN),
		MssClamp: t.MSSClamp,

		Masquerade: masquerade(t.Masquerade),
		Services:   services(t.Services),
		Redirects:  redirects(t.Redirects),
		Policy:     policySection(&t),
	}
	for _, n := range t.Nodes {
		set.Nodes = append(set.Nodes, &pb.Node{
			Name:      n.Name,
			Address:   addr(n.Address),
			NodeCidrs: prefixes(n.NodeCIDRs),
			VtepMac:   mac(n.VTEPMAC),
		})
	}
	return set
}

// masquerade leaves a section out that would say nothing.
func masquerade(m dataplane.Masquerade) *pb.Masquerade {
	if !m.Enabled && !m.StrictEIM && !m.MasqLinkLocal && len(m.NativeRoutingCIDRs)+len(m.NonMasqueradeCIDRs)+len(m.Rules) == 0 {
		return nil
	}
	out := &pb.Masquerade{
		Enabled:            &m.Enabled,
		NativeRoutingCidrs: prefixes(m.NativeRoutingCIDRs),
		NonMasqueradeCidrs: prefixes(m.NonMasqueradeCIDRs),
		StrictEim:          m.StrictEIM,
		MasqLinkLocal:      m.MasqLinkLocal,
	}
	for _, r := range m.Rules {
		rule := &pb.MasqueradeRuleSpec{
			Name:         r.Name,
			Sources:      prefixes(r.Sources),
			Destinations: prefixes(r.Destinations),
			Uplink:       r.Uplink,
			Action:       r.Action.String(),
			Ports:        r.Ports.String(),
		}
		for _, a := range r.Addresses {
			rule.Addresses = append(rule.Addresses, addr(a))
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

func vxlan(x dataplane.VXLAN) *pb.Vxlan {
	port := uint32(x.Port)
	return &pb.Vxlan{
		Vni:         &x.VNI,
		Port:        &port,
		InheritDscp: x.InheritDSCP,
		UdpChecksum: x.UDPChecksum,
		StrictFlags: x.StrictFlags,
	}
}

func status(s dataplane.Status) *pb.Status {
	out := &pb.Status{
		Healthy: len(s.Reasons) == 0,
		Reasons: s.Reasons,
		Node:    s.Node,
		Started: stamp(s.Started),
		Tables: &pb.TablesStatus{
			Version: s.TablesVersion,
			Applied: stamp(s.TablesApplied),
			Source:  s.TablesSource,
			Error:   s.TablesError,
		},
		Routing:      string(s.Routing),
		Vxlan:        vxlan(s.VXLAN),
		Generation:   s.Generation,
		Routes:       uint64(s.Routes),
		Endpoints:    uint32(s.Endpoints),
		MaxEndpoints: uint32(s.MaxEndpoints),
		MemoryBytes:  s.MemoryBytes,
		Ports:        ports(s.Ports),
		Conntrack:    conntrackStatus(s.Conntrack),
		Masquerade:   masqueradeStatus(s.Masquerade),
		Policy:       policyStatus(s.Policy),
	}
	for _, w := range s.Workers {
		out.Workers = append(out.Workers, worker(w))
	}
	return out
}

func worker(w dataplane.WorkerStatus) *pb.Worker {
	out := &pb.Worker{
		Id:         uint32(w.ID),
		Scheduler:  w.Scheduler,
		Idle:       w.Idle,
		Batches:    w.Batches,
		Received:   w.Received,
		Originated: w.Originated,
		Forwarded:  w.Forwarded,
		ToHost:     w.ToHost,
		Dropped:    w.Dropped,
		HandedOver: w.HandedOver,
		Sleeps:     w.Sleeps,
		Panics:     w.Panics,
		Frames: &pb.Frames{
			Total:      int64(w.Frames.Total),
			Free:       int64(w.Frames.Free),
			Fill:       int64(w.Frames.Fill),
			Rx:         int64(w.Frames.RX),
			Tx:         int64(w.Frames.TX),
			Completion: int64(w.Frames.Completion),
			Held:       int64(w.Frames.Held),
		},
	}
	for _, c := range w.CPUs {
		out.Cpus = append(out.Cpus, uint32(c))
	}
	return out
}

func ports(in []dataplane.PortStatus) []*pb.Port {
	out := make([]*pb.Port, len(in))
	for i, p := range in {
		out[i] = &pb.Port{
			Name:     p.Name,
			Kind:     p.Kind,
			Device:   p.Device,
			Ifindex:  uint32(p.Ifindex),
			Queue:    uint32(p.Queue),
			Worker:   uint32(p.Worker),
			Driver:   p.Driver,
			XdpMode:  p.XDPMode,
			ZeroCopy: p.ZeroCopy,
			State:    p.State,
			Mtu:      uint32(p.MTU),
			Counters: p.Counters,
		}
	}
	return out
}

func route(r dataplane.RouteStatus) *pb.Route {
	return &pb.Route{
		Prefix: r.Prefix.String(),
		Kind:   r.Kind,
		Via:    addr(r.Via),
		Port:   r.Port,
		Mtu:    uint32(r.MTU),
		Source: r.Source,
		Node:   r.Node,
	}
}

func neighbour(n dataplane.NeighbourStatus) *pb.Neighbor {
	return &pb.Neighbor{Address: addr(n.Address), Mac: n.MAC, Port: n.Port, State: n.State}
}

func nodeStatus(n dataplane.NodeStatus) *pb.NodeStatus {
	return &pb.NodeStatus{
		Name:           n.Name,
		Address:        addr(n.Address),
		NodeCidrs:      prefixes(n.NodeCIDRs),
		VtepMac:        mac(n.VTEPMAC),
		Local:          n.Local,
		Mode:           n.Mode,
		PathMtu:        uint32(n.PathMTU),
		PathMtuExpires: stamp(n.PathMTUExpires),
	}
}

func endpoint(e dataplane.EndpointStatus) *pb.Endpoint {
	return &pb.Endpoint{
		Name:      e.Name,
		Address:   addr(e.Address),
		Mac:       e.MAC,
		Netns:     e.Netns,
		Ifname:    e.Ifname,
		Device:    e.Device,
		Ifindex:   uint32(e.Ifindex),
		Slot:      e.Slot,
		Worker:    uint32(e.Worker),
		Labels:    e.Labels,
		Ports:     e.Ports,
		State:     e.State,
		RxPackets: e.RXPackets,
		RxBytes:   e.RXBytes,
		TxPackets: e.TXPackets,
		TxBytes:   e.TXBytes,
	}
}

func drop(d dataplane.DropStatus) *pb.Drop {
	return &pb.Drop{Reason: d.Reason, Sentence: d.Sentence, Benign: d.Benign, Packets: d.Packets}
}

func captured(p dataplane.CapturedPacket) *pb.Packet {
	return &pb.Packet{
		Port:     p.Port,
		Received: p.Received,
		Time:     stamp(p.Time),
		Length:   uint32(p.Length),
		Data:     p.Data,
	}
}

// stamp leaves the zero time out instead of sending the year 1.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func mac(m [6]byte) string {
	if m == ([6]byte{}) {
		return ""
	}
	return net.HardwareAddr(m[:]).String()
}

func prefixes(in []netip.Prefix) []string {
	out := make([]string, len(in))
	for i, p := range in {
		out[i] = p.String()
	}
	return out
}

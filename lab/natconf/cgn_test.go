package natconf

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"ringway/packet"
	"ringway/packet/packettest"
)

// rfc6888 is carrier-grade NAT, as far as a node can be one: a pod is its subscriber.
// REQ-1, that the other RFCs hold, is what the rest of the table says.
var rfc6888 = []requirement{
	{id: "RFC 6888 REQ-2", level: "MUST", demand: "by default a pod keeps to one address of a pool",
		probe: paired, ringway: met, nft: met},
	{id: "RFC 6888 REQ-3", level: "MUST", demand: "addresses of a pool need not be neighbours",
		probe: nonContiguousPool, ringway: met, nft: met},
	{id: "RFC 6888 REQ-4", level: "MUST", demand: "the ports of a pod can be limited",
		probe: portQuota, limited: true, ringway: met, nft: met},
	{id: "RFC 6888 REQ-5", level: "SHOULD", demand: "so can its flows",
		probe: flowQuota, limited: true, ringway: met, nft: met},
	{id: "RFC 6888 REQ-6", level: "MUST", demand: "destinations can be exempted, while flows to them live",
		probe: exemption, ringway: met, nft: met},
	{id: "RFC 6888 REQ-7", level: "SHOULD", demand: "endpoint-independent filtering",
		probe: openFiltering(packet.ProtoUDP), ringway: notMet, nft: notMet,
		why: "as RFC 4787 REQ-8", nftNotes: "only who was spoken to may answer"},
	{id: "RFC 6888 REQ-8", level: "SHOULD", demand: "what is late for a port's last owner does not reach its next one",
		probe: lateForLastOwner, ringway: met, nft: met},
	{id: "RFC 6888 REQ-11A", level: "MUST", demand: "what finds no port is dropped",
		probe: droppedWhenFull, ringway: met, nft: met},
	{id: "RFC 6888 REQ-11B", level: "SHOULD", demand: "and answered by ICMP 3/1",
		probe: answeredWhenFull(packet.ICMPHostUnreachable), ringway: notMet, nft: notMet,
		why: "answered by 3/13, as RFC 5508 REQ-8 says: a host unreachable that is reachable misleads", nftNotes: "dropped in silence"},
	{id: "RFC 6888 REQ-11C", level: "SHOULD", demand: "and counted for the operator",
		probe: countedWhenFull, ringway: met, nft: met},
	{id: "RFC 6888 REQ-11D", level: "MUST", demand: "no mapping is given up to make room",
		probe: keptWhenFull, ringway: met, nft: met},
	{id: "RFC 6888 REQ-13", level: "SHOULD", demand: "every port of the range is used",
		probe: everyPortUsed, ringway: met, nft: met},
	{id: "RFC 6888 REQ-15", level: "SHOULD", demand: "ports are hard to guess",
		probe: randomPorts, option: random, ringway: met, nft: byOption, nftNotes: "the pod's own"},
	{id: "RFC 6888 REQ-12", level: "SHOULD", demand: "destinations are not logged",
		probe: destinationsNotLogged, ringway: met, nft: met},
}

// nonContiguousPool: all addresses of the pool are used, if not by two pods then by
// the protocol's own choice.
func nonContiguousPool(s *scene) error {
	s = s.in(pool)
	if len(s.x) != 2 || s.x[1]-s.x[0] < 2 {
		return &broken{errors.New("the pool is no pool of two addresses that are not neighbours")}
	}
	for _, pod := range []*station{s.a, s.b} {
		if err := s.udp(pod, s.o1).both(); err != nil {
			return err
		}
	}
	return nil
}

// portQuota: a pod with its quota of ports gets no more, and the other one does.
func portQuota(s *scene) error {
	return s.limited(func(i int) *flow { return s.udp(s.a, s.o1) })
}

// flowQuota is portQuota for flows of one port.
func flowQuota(s *scene) error {
	first := s.udp(s.a, s.o1)
	return s.limited(func(i int) *flow { return first.to(s.o1, newPort()) })
}

// limited opens flows until one is refused, which must be at the quota.
func (s *scene) limited(next func(i int) *flow) error {
	if err := s.settle(); err != nil { // so that the fences have their flows
		return err
	}
	opened := 0
	for ; opened <= 2*quota; opened++ {
		err := next(opened).open()
		if m := new(missing); errors.As(err, &m) {
			break
		}
		if err != nil {
			return err
		}
	}
	if opened > 2*quota || opened < quota-1 {
		return fmt.Errorf("%d flows with a quota of %d", opened, quota)
	}
	return s.udp(s.b, s.o1).both()
}

// exemption: a new flow leaves with the pod's address, one that lives keeps what it
// has.
func exemption(s *scene) error {
	later := packettest.Addr(addressLater)
	before := s.udp(s.a, later)
	if err := before.both(); err != nil {
		return err
	}
	if err := s.dev.exempt(netip.PrefixFrom(address(later), 32)); err != nil {
		return &broken{err}
	}
	bare := *s
	bare.x = []uint32{s.a.addr}
	after := bare.udp(s.a, later)
	return firstError(after.both, before.both, s.udp(s.a, s.o1).both)
}

// lateForLastOwner: one pod's connection ends, the other gets its port, and the
// first one's peer has not heard of it.
func lateForLastOwner(s *scene) error {
	s = s.in(narrow)
	service := newPort()
	var flows []*flow
	for range narrowPorts {
		flows = append(flows, s.flowFrom(packet.ProtoTCP, s.a, newPort(), endpoint{s.o1, service}))
	}
	if err := openAll(flows...); err != nil {
		return err
	}
	old := flows[1]
	if err := firstError(old.both, old.close); err != nil {
		return err
	}
	heir := s.flowFrom(packet.ProtoTCP, s.b, newPort(), endpoint{s.o2, service})
	if err := heir.open(); err != nil {
		return err
	}
	since := s.b.count()
	if err := old.launchSegment(old.oSeq, packet.TCPPsh|packet.TCPAck, newTag()); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	for _, d := range s.b.arrived(since) {
		if d.from() == old.o {
			return errors.New("what was for the last owner reached the next one")
		}
	}
	return heir.both()
}

// droppedWhenFull: it leaves neither with the pod's address nor with any other.
func droppedWhenFull(s *scene) error {
	s = s.in(narrow)
	service, err := s.exhaust()
	if err != nil {
		return err
	}
	err = s.flowFrom(packet.ProtoUDP, s.b, newPort(), endpoint{s.o1, service}).open()
	return absent(err, "a flow more than there are ports")
}

func countedWhenFull(s *scene) error {
	before, err := s.dev.refusals()
	if err != nil {
		return &broken{err}
	}
	if err := droppedWhenFull(s); err != nil {
		return err
	}
	after, err := s.dev.refusals()
	if err != nil {
		return &broken{err}
	}
	if after == before {
		return errors.New("no counter has moved")
	}
	return nil
}

// keptWhenFull: many more flows are wanted than there are ports, and all that had
// one keep it.
func keptWhenFull(s *scene) error {
	s = s.in(narrow)
	service := newPort()
	var flows []*flow
	for range narrowPorts {
		flows = append(flows, s.flowFrom(packet.ProtoUDP, s.a, newPort(), endpoint{s.o1, service}))
	}
	if err := openAll(flows...); err != nil {
		return err
	}
	for range 50 {
		f := s.flowFrom(packet.ProtoUDP, s.b, newPort(), endpoint{s.o1, service})
		if err := s.b.send(packettest.IPv4{Src: s.b.addr, Dst: s.o1, Proto: packet.ProtoUDP}, f.transportOut(newTag())...); err != nil {
			return err
		}
	}
	for _, f := range flows {
		if err := firstError(f.inward, f.outward); err != nil {
			return err
		}
	}
	return nil
}

func everyPortUsed(s *scene) error { return s.in(hundred).fill(hundredPorts) }

func destinationsNotLogged(s *scene) error {
	f := s.udp(s.a, s.o1)
	if err := f.both(); err != nil {
		return err
	}
	log, err := s.dev.written()
	if err != nil {
		return &broken{err}
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, address(s.o1).String()) {
			return fmt.Errorf("the log says %q", strings.TrimSpace(line))
		}
	}
	return nil
}

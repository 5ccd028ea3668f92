package natconf

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"ringway/packet"
	"ringway/packet/packettest"
)

// rfc4787 is UDP.
var rfc4787 = []requirement{
	{id: "RFC 4787 REQ-1", level: "MUST", demand: "a pod's port is one and the same outside, whatever the destination, also when another pod has the same port",
		probe: mappingOf(packet.ProtoUDP), ringway: met, nft: notMet, nftNotes: "another port where the first choice is taken"},
	{id: "RFC 4787 REQ-2", level: "SHOULD", demand: "a pod keeps to one address of a pool",
		probe: paired, ringway: met, nft: met},
	{id: "RFC 4787 REQ-3", level: "MUST", demand: "two pods never share a port outside",
		probe: noOverloading(packet.ProtoUDP), ringway: met, nft: notMet, nftNotes: "shared where destinations differ"},
	{id: "RFC 4787 REQ-3, full", level: "MUST", demand: "not even when no port is free",
		probe: noOverloadingWhenFull, option: strictEIM, ringway: byOption, nft: notMet,
		why: "shared then where destinations differ, as RFC 7857 section 3 allows", nftNotes: "shared where destinations differ"},
	{id: "RFC 4787 REQ-3a", level: "SHOULD", demand: "a port below 1024 stays below it, the others above",
		probe: portClass, option: ownAddress, ringway: byOption, nft: met,
		why: "the node's own address gives 49152 to 65535 only; one that serves SNAT alone has them all"},
	{id: "RFC 4787 REQ-4", level: "SHOULD", demand: "an even port stays even, an odd one odd",
		probe: portParity, ringway: notMet, nft: notMet,
		why: "halves the ports that a flow can have, for RTP without RTCP attributes; RFC 7857 section 8 leaves it open", nftNotes: "not where the first choice is taken"},
	{id: "RFC 4787 REQ-5", level: "MUST", demand: "an idle mapping lives for 2 minutes or more",
		probe: udpTimeout(2 * time.Minute), waits: true, ringway: met, nft: notMet, nftNotes: "30 s without an answer"},
	{id: "RFC 4787 REQ-5c", level: "SHOULD", demand: "by default for 5 minutes",
		probe: udpDefault(5 * time.Minute), ringway: met, nft: notMet, nftNotes: "30 s, 120 s once both sides have spoken"},
	{id: "RFC 4787 REQ-6", level: "MUST", demand: "what the pod sends keeps the mapping alive",
		probe: outboundRefresh, waits: true, ringway: met, nft: met},
	{id: "RFC 4787 REQ-6a", level: "MAY", demand: "what comes from outside keeps it alive, too",
		probe: inboundRefresh, waits: true, ringway: notMet, nft: met,
		why: "anybody outside could hold a pod's ports for ever"},
	{id: "RFC 4787 REQ-7", level: "MUST", demand: "the addresses inside and the NAT's own outside cannot conflict, or conflicts do no harm",
		probe: noConflict, ringway: met, nft: notMet, nftNotes: "any address is taken"},
	{id: "RFC 4787 REQ-8", level: "SHOULD", demand: "filtering by the outside address at most, not by its port",
		probe: openFiltering(packet.ProtoUDP), ringway: notMet, nft: notMet,
		why: "only who was spoken to may answer; it is also what lets ports be shared", nftNotes: "only who was spoken to may answer"},
	{id: "RFC 4787 REQ-9", level: "MUST", demand: "pods reach each other by their addresses and ports outside",
		probe: hairpinUDP(false), ringway: met, nft: notMet, nftNotes: "taken for the node's own"},
	{id: "RFC 4787 REQ-9a", level: "MUST", demand: "and see each other's address and port outside",
		probe: hairpinUDP(true), ringway: met, nft: notMet, nftNotes: "taken for the node's own"},
	{id: "RFC 4787 REQ-10", level: "SHOULD", demand: "no ALG rewrites what UDP carries",
		probe: untouched(packet.ProtoUDP, 5060, sipInvite), ringway: met, nft: met},
	{id: "RFC 4787 REQ-11", level: "MUST", demand: "mapping and filtering do not change as ports run out: with 1 %, 50 % and all of them in use",
		probe: deterministic, ringway: met, nft: notMet, nftNotes: "as REQ-1 and REQ-3"},
	{id: "RFC 4787 REQ-12", level: "MUST", demand: "no ICMP message ends a mapping",
		probe: survivesErrors(packet.ProtoUDP), ringway: met, nft: met},
	{id: "RFC 4787 REQ-12a", level: "SHOULD", demand: "ICMP errors come in whoever sends them",
		probe:   translatesErrors([]icmpError{{icmpType: packet.ICMPUnreachable, code: 1, from: thirdParty}}, packet.ProtoUDP),
		ringway: met, nft: met},
	{id: "RFC 4787 REQ-12b", level: "SHOULD", demand: "destination unreachable comes in",
		probe: translatesErrors(unreachables(), packet.ProtoUDP), ringway: met, nft: met},
	{id: "RFC 4787 REQ-13", level: "MUST", demand: "a pod whose packet is too long and must not be fragmented hears of it",
		probe: tooLong, ringway: met, nft: met},
	{id: "RFC 4787 REQ-13a", level: "MUST", demand: "one that may be is fragmented, and leaves in order",
		probe: fragmented, ringway: met, nft: met},
	{id: "RFC 4787 REQ-14", level: "MUST", demand: "fragments are received in any order",
		probe: fragmentsInEveryOrder, ringway: met, nft: met},
	{id: "RFC 4787 REQ-14a", level: "MUST", demand: "a flood of fragments does no harm to what comes in order or whole",
		probe: fragmentsUnderFlood, ringway: met, nft: notMet, nftNotes: "a full reassembly queue takes no new datagram"},
}

const thirdParty = 192<<24 | 0<<16 | 2<<8 | 99 // RFC 5737

// mappingOf opens one pod's conversations with several destinations, alone and
// when the other pod has the same port inside.
func mappingOf(proto uint8) func(*scene) error {
	return func(s *scene) error {
		if err := independent(s, proto, s.a, newPort(), newPort()); err != nil {
			return err
		}
		port, service := newPort(), newPort()
		if err := s.flowFrom(proto, s.a, port, endpoint{s.o1, service}).open(); err != nil {
			return err
		}
		return independent(s, proto, s.b, port, service)
	}
}

// independent: first a destination that nobody has used, then one that the other
// pod may have.
func independent(s *scene, proto uint8, pod *station, podPort, service uint16) error {
	first := s.flowFrom(proto, pod, podPort, endpoint{s.o2, service})
	for _, f := range []*flow{first, first.to(s.o1, service), first.to(s.o1, newPort())} {
		if err := f.open(); err != nil {
			return err
		}
		if f.ext != first.ext {
			return fmt.Errorf("%s left as %s, to %s as %s", first, first.ext, f.o, f.ext)
		}
	}
	return nil
}

// paired looks at a pod's address outside for many ports and destinations.
func paired(s *scene) error {
	s = s.in(pool)
	for _, pod := range []*station{s.a, s.b} {
		first := s.udp(pod, s.o1)
		if err := first.open(); err != nil {
			return err
		}
		for i := range 16 {
			f := s.udp(pod, []uint32{s.o1, s.o2}[i%2])
			if err := f.open(); err != nil {
				return err
			}
			if f.ext.addr != first.ext.addr {
				return fmt.Errorf("%s left as %s and as %s", pod.name, first.ext, f.ext)
			}
		}
	}
	return nil
}

// noOverloading has both pods use the same port towards different destinations.
func noOverloading(proto uint8) func(*scene) error {
	return func(s *scene) error {
		a := s.flow(proto, s.a, s.o1)
		b := s.flowFrom(proto, s.b, a.podPort, endpoint{s.o2, newPort()})
		return firstError(a.open, b.open, s.noneShared)
	}
}

// noOverloadingWhenFull has one pod take all ports of a range, and the other ask
// for one towards another destination.
func noOverloadingWhenFull(s *scene) error {
	s = s.in(narrow)
	if err := s.fill(narrowPorts); err != nil {
		return err
	}
	return absent(s.udp(s.b, s.o2).open(), "a port in use was given once more")
}

// fill has the first pod take that many ports, each for a flow to one destination.
func (s *scene) fill(ports int) error {
	service := newPort()
	seen := map[endpoint]bool{}
	for range ports {
		f := s.flowFrom(packet.ProtoUDP, s.a, newPort(), endpoint{s.o1, service})
		if err := f.open(); err != nil {
			return fmt.Errorf("with %d ports in use: %w", len(seen), err)
		}
		seen[f.ext] = true
	}
	if len(seen) != ports {
		return fmt.Errorf("%d flows to one destination left as %d endpoints", ports, len(seen))
	}
	return nil
}

// portClass has both pods send from ports of both classes.
func portClass(s *scene) error {
	for _, port := range []uint16{500, newPort()} {
		for _, pod := range []*station{s.a, s.b} {
			f := s.flowFrom(packet.ProtoUDP, pod, port, endpoint{s.o1, 4500})
			if err := f.open(); err != nil {
				return err
			}
			if (port < 1024) != (f.ext.port < 1024) {
				return fmt.Errorf("%s left as %s", f, f.ext)
			}
		}
	}
	return nil
}

// portParity has both pods send from the same ports, even and odd.
func portParity(s *scene) error {
	service := newPort()
	for range 16 {
		port := newPort()
		for _, pod := range []*station{s.a, s.b} {
			f := s.flowFrom(packet.ProtoUDP, pod, port, endpoint{s.o1, service})
			if err := f.open(); err != nil {
				return err
			}
			if port%2 != f.ext.port%2 {
				return fmt.Errorf("%s left as %s", f, f.ext)
			}
		}
	}
	return nil
}

// noConflict asks the device to take an address of the pods' network for its own.
func noConflict(s *scene) error {
	taken, err := s.dev.takesConflict()
	if err != nil {
		return &broken{err}
	}
	if taken {
		return errors.New("an address of the pods' network was taken for the NAT's own")
	}
	return nil
}

// openFiltering: one who was not spoken to, or another port of one who was, sends
// to the pod.
func openFiltering(proto uint8) func(*scene) error {
	return func(s *scene) error {
		f := s.flow(proto, s.a, s.o1)
		if err := f.open(); err != nil {
			return err
		}
		for _, o := range []endpoint{{s.o2, newPort()}, {s.o1, newPort()}} {
			stranger := *f
			stranger.o = o
			err := stranger.knock()
			if err == nil || isBroken(err) {
				return err
			}
		}
		return fmt.Errorf("nobody but %s reaches %s", f.o, f.ext)
	}
}

// knock sends what begins a conversation, from outside.
func (f *flow) knock() error {
	if f.proto == packet.ProtoTCP {
		return f.segmentIn(syn, nil)
	}
	return f.inward()
}

const sipInvite = "INVITE sip:b@example.net SIP/2.0\r\nVia: SIP/2.0/UDP %[1]s:%[2]d\r\nContact: <sip:a@%[1]s:%[2]d>\r\nContent-Length: 0\r\n\r\n"

// untouched sends what an ALG would rewrite.
func untouched(proto uint8, service uint16, format string) func(*scene) error {
	return func(s *scene) error {
		f := s.flowFrom(proto, s.a, newPort(), endpoint{s.o1, service})
		data := fmt.Appendf(nil, format, address(s.a.addr), f.podPort)
		if proto == packet.ProtoUDP {
			return f.outwardIP(packettest.IPv4{}, data)
		}
		if err := f.handshake(); err != nil {
			return err
		}
		if err := f.segmentOut(packet.TCPPsh|packet.TCPAck, data); err != nil {
			return err
		}
		if !f.seen.carries(data) {
			return fmt.Errorf("%q came out as %q", data, f.seen.transport())
		}
		return nil
	}
}

// deterministic repeats REQ-1, REQ-3 and the filter at three levels of use, the
// last of which leaves just the ports that a round takes.
func deterministic(s *scene) error {
	const round = 6
	s = s.in(hundred)
	for _, used := range []int{1, hundredPorts / 2, hundredPorts - round} {
		if err := s.dev.forget(); err != nil {
			return &broken{err}
		}
		clear(s.owners)
		if err := s.fill(used); err != nil {
			return err
		}
		for _, check := range []func(*scene) error{mappingOf(packet.ProtoUDP), noOverloading(packet.ProtoUDP), closedToOthers} {
			if err := check(s); err != nil {
				return fmt.Errorf("with %d %% of the ports in use: %w", used, err)
			}
		}
	}
	return nil
}

func closedToOthers(s *scene) error {
	if err := openFiltering(packet.ProtoUDP)(s); isBroken(err) {
		return err
	} else if err == nil {
		return errors.New("one who was not spoken to reaches the pod")
	}
	return nil
}

func unreachables() []icmpError {
	return slices.DeleteFunc(errorTypes(), func(e icmpError) bool { return e.icmpType != packet.ICMPUnreachable })
}

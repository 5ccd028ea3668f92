package natconf

import (
	"errors"
	"fmt"
	"time"

	"ringway/packet"
)

// rfc5382 is TCP.
var rfc5382 = []requirement{
	{id: "RFC 5382 REQ-1", level: "MUST", demand: "a pod's port is one and the same outside, whatever the destination",
		probe: mappingOf(packet.ProtoTCP), ringway: met, nft: notMet, nftNotes: "another port where the first choice is taken"},
	{id: "RFC 5382 REQ-2", level: "MUST", demand: "every valid sequence of segments passes: closing by either side and both at once, half-closed, half-open, reset, reopened",
		probe: sequences, ringway: met, nft: met},
	{id: "RFC 5382 REQ-2a", level: "MUST", demand: "simultaneous open",
		probe: simultaneousOpen, ringway: met, nft: met},
	{id: "RFC 5382 REQ-3", level: "SHOULD", demand: "filtering by the outside address at most, not by its port",
		probe: openFiltering(packet.ProtoTCP), ringway: notMet, nft: notMet,
		why: "as RFC 4787 REQ-8", nftNotes: "only who was spoken to may answer"},
	{id: "RFC 5382 REQ-4", level: "MUST", demand: "an unsolicited SYN has no answer for 6 seconds",
		probe: unsolicitedSYN, waits: true, ringway: met, nft: notMet, nftNotes: "RST at once"},
	{id: "RFC 5382 REQ-5", level: "MUST", demand: "idle connections live for 2 h 4 min, half-open and closing ones for 4 min",
		probe: tcpTimeouts, waits: true, ringway: met, nft: notMet, nftNotes: "60 s while opening, 30 s while closing"},
	{id: "RFC 5382 REQ-6", level: "SHOULD", demand: "no ALG rewrites what TCP carries",
		probe: untouched(packet.ProtoTCP, 21, "EPRT |1|%s|%d|\r\n"), ringway: met, nft: met},
	{id: "RFC 5382 REQ-7", level: "MUST", demand: "two pods never share a port outside",
		probe: noOverloading(packet.ProtoTCP), ringway: met, nft: notMet, nftNotes: "shared where destinations differ"},
	{id: "RFC 5382 REQ-8", level: "MUST", demand: "pods reach each other by their addresses and ports outside",
		probe: hairpinTCP(false), ringway: met, nft: notMet, nftNotes: "taken for the node's own"},
	{id: "RFC 5382 REQ-8a", level: "MUST", demand: "and see each other's address and port outside",
		probe: hairpinTCP(true), ringway: met, nft: notMet, nftNotes: "taken for the node's own"},
	{id: "RFC 5382 REQ-9", level: "SHOULD", demand: "destination unreachable comes in, translated",
		probe: translatesErrors(unreachables(), packet.ProtoTCP), ringway: met, nft: met},
	{id: "RFC 5382 REQ-10", level: "MUST", demand: "no ICMP message ends a mapping or a connection",
		probe: survivesErrors(packet.ProtoTCP), ringway: met, nft: met},
}

// sequences plays connections through to their end.
func sequences(s *scene) error {
	data := packet.TCPPsh | packet.TCPAck
	more := func(f *flow) func() error {
		return func() error { return f.segmentIn(data, newTag()) }
	}
	for _, sequence := range []struct {
		name string
		play func(*flow) error
	}{
		{"closed by the pod", (*flow).close},
		{"closed by the outside", func(f *flow) error {
			return firstError(f.inSegment(finAck), f.outSegment(ack), f.outSegment(finAck), f.inSegment(ack))
		}},
		{"closed by both at once", func(f *flow) error {
			return firstError(f.outSegment(finAck), f.inSegment(finAck), f.outSegment(ack), f.inSegment(ack))
		}},
		{"half-closed", func(f *flow) error {
			return firstError(f.outSegment(finAck), f.inSegment(ack), more(f), more(f), more(f), f.inSegment(finAck), f.outSegment(ack))
		}},
		{"reset by the pod", func(f *flow) error { return f.segmentOut(packet.TCPRst|packet.TCPAck, nil) }},
		{"reset by the outside", func(f *flow) error { return f.segmentIn(packet.TCPRst|packet.TCPAck, nil) }},
		{"half-open and found out", (*flow).halfOpen},
		{"reopened after close", func(f *flow) error { return firstError(f.close, f.reopen, f.both, f.close) }},
	} {
		f := s.tcp(s.a, s.o1)
		if err := firstError(f.open, f.both, f.both, func() error { return sequence.play(f) }); err != nil {
			return fmt.Errorf("%s: %w", sequence.name, err)
		}
	}
	return nil
}

// halfOpen is RFC 9293 3.5.1: the pod has lost its end, opens anew, learns from the
// acknowledgment that the other has not, resets that, and opens.
func (f *flow) halfOpen() error {
	lost, anew := f.podSeq, f.podSeq+200_000
	return firstError(
		func() error { return f.segmentOutAt(anew, syn, nil) },
		func() error { return f.segmentInAt(f.oSeq, ack, nil) },
		func() error { return f.segmentOutAt(lost, packet.TCPRst, nil) },
		func() error { f.podSeq, f.oSeq = anew, f.oSeq+200_000; return f.outSegment(syn)() },
		f.inSegment(synAck), f.outSegment(ack), f.both, f.close,
	)
}

// reopen begins a new connection on the same ports, with a later sequence number.
func (f *flow) reopen() error {
	f.podSeq += 100_000
	f.oSeq += 100_000
	return f.handshake()
}

// simultaneousOpen: both SYNs are on their way at once.
func simultaneousOpen(s *scene) error {
	f := s.tcp(s.a, s.o1)
	return firstError(
		func() error { return f.segmentOutAt(f.podSeq, syn, nil) },
		func() error { return f.segmentInAt(f.oSeq, syn, nil) },
		func() error { f.podSeq, f.oSeq = f.podSeq+1, f.oSeq+1; return nil },
		func() error { return f.segmentOutAt(f.podSeq-1, synAck, nil) },
		func() error { return f.segmentInAt(f.oSeq-1, synAck, nil) },
		f.both, f.both, f.close,
	)
}

// A SYN that nobody asked for must not be answered for so long.
const synSilence = 6 * time.Second

// unsolicitedSYN: neither to a port in use nor to one that is not; and if the pod
// opens that very connection meanwhile, it opens.
func unsolicitedSYN(s *scene) error {
	f := s.udp(s.a, s.o1) // shows a port of the NAT
	open := s.tcp(s.a, s.o1)
	if err := openAll(f, open); err != nil {
		return err
	}
	since := s.out.count()
	unused, used, early := s.tcp(s.a, s.o2), open.to(s.o2, newPort()), open.to(s.o2, newPort())
	unused.ext = endpoint{f.ext.addr, f.ext.port ^ 1}
	used.ext, early.ext = open.ext, open.ext
	for _, knocker := range []*flow{unused, used, early} {
		if err := knocker.launchSegment(knocker.oSeq, syn, nil); err != nil {
			return err
		}
	}
	begun := time.Now()
	if err := s.settle(); err != nil {
		return err
	}
	if err := early.outSegment(syn)(); err != nil {
		return fmt.Errorf("the pod's own SYN meanwhile: %w", err)
	}
	time.Sleep(time.Until(begun.Add(synSilence)))
	for _, d := range s.out.arrived(since) {
		for _, knocker := range []*flow{unused, used, early} {
			if d.proto == packet.ProtoTCP && d.flags&packet.TCPRst != 0 && d.to() == knocker.o {
				return errors.New("RST in answer to a SYN")
			}
			if q, ok := d.quote(); ok && q.from() == knocker.o {
				return fmt.Errorf("ICMP %d/%d in answer to a SYN", d.icmpType, d.code)
			}
		}
	}
	return nil
}

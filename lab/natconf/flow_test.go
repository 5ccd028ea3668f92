package natconf

import (
	"fmt"
	"slices"

	"ringway/packet"
	"ringway/packet/packettest"
)

// flow is a conversation between a pod and the outside, in either of which a
// probe can put words.
type flow struct {
	*scene
	proto   uint8
	pod     *station
	podPort uint16 // ICMP: the id
	o       endpoint
	ext     endpoint // the pod's, as the outside sees it; set by the first datagram out

	podSeq, oSeq uint32 // TCP: the next byte of each side

	sent *datagram // the last datagram as the pod sent it
	seen *datagram // the same as it came out
	said *datagram // the last datagram as the outside sent it
	got  *datagram // the same as the pod got it
}

// flow begins a conversation on ports of its own.
func (s *scene) flow(proto uint8, pod *station, o uint32) *flow {
	return s.flowFrom(proto, pod, newPort(), endpoint{o, newPort()})
}

func (s *scene) flowFrom(proto uint8, pod *station, podPort uint16, o endpoint) *flow {
	if proto == packet.ProtoICMP {
		o.port = 0
	}
	tag := uint32(lastTag.Add(1))
	return &flow{scene: s, proto: proto, pod: pod, podPort: podPort, o: o, podSeq: tag << 12, oSeq: tag<<12 + 1<<31}
}

func (s *scene) udp(pod *station, o uint32) *flow { return s.flow(packet.ProtoUDP, pod, o) }
func (s *scene) tcp(pod *station, o uint32) *flow { return s.flow(packet.ProtoTCP, pod, o) }

// to is another conversation of the same pod and port.
func (f *flow) to(o uint32, port uint16) *flow {
	return f.flowFrom(f.proto, f.pod, f.podPort, endpoint{o, port})
}

func (f *flow) String() string {
	return fmt.Sprintf("%s from %s:%d to %s", protoName(f.proto), f.pod.name, f.podPort, f.o)
}

func protoName(proto uint8) string {
	switch proto {
	case packet.ProtoTCP:
		return "tcp"
	case packet.ProtoUDP:
		return "udp"
	case packet.ProtoICMP:
		return "icmp"
	case packet.ProtoSCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", proto)
}

// open begins the conversation: TCP shakes hands, others send one datagram.
func (f *flow) open() error {
	if f.proto == packet.ProtoTCP {
		return f.handshake()
	}
	return f.outward()
}

// outward sends a datagram from the pod and expects it outside.
func (f *flow) outward() error {
	if f.proto == packet.ProtoTCP {
		return f.segmentOut(packet.TCPPsh|packet.TCPAck, newTag())
	}
	return f.outwardIP(packettest.IPv4{}, newTag())
}

// outwardIP is outward with more to say in the IPv4 header, and what to carry.
func (f *flow) outwardIP(ip packettest.IPv4, tag []byte) error {
	return f.out1(ip, f.transportOut(tag), func(d *datagram) bool { return d.carries(tag) })
}

// transportOut is what the pod's datagram has behind its IPv4 header.
func (f *flow) transportOut(payload []byte) []packettest.Layer {
	data := packettest.Payload(payload)
	switch f.proto {
	case packet.ProtoUDP:
		return []packettest.Layer{packettest.UDP{Src: f.podPort, Dst: f.o.port}, data}
	case packet.ProtoICMP:
		return []packettest.Layer{packettest.ICMP{Type: packet.ICMPEcho, ID: f.podPort, Seq: 1}, data}
	case packet.ProtoSCTP:
		return []packettest.Layer{packettest.SCTP{Src: f.podPort, Dst: f.o.port, Tag: f.podSeq}, packettest.SCTPData{TSN: 1}, data}
	}
	return []packettest.Layer{data}
}

// out1 sends one datagram out. The first one shows what the pod is called outside.
func (f *flow) out1(ip packettest.IPv4, transport []packettest.Layer, match func(*datagram) bool) error {
	ip.Src, ip.Dst, ip.Proto = f.pod.addr, f.o.addr, f.proto
	f.sent = assemble(ip, transport)
	if err := f.pod.send(ip, transport...); err != nil {
		return err
	}
	d, err := f.expect(f.out, f.String(), func(d *datagram) bool { return d.dst == f.o.addr && d.proto == f.proto && match(d) })
	if err != nil {
		return err
	}
	f.seen = d
	if !slices.Contains(f.x, d.src) {
		return fmt.Errorf("%s: left with the source %s", f, d.from())
	}
	if f.proto != packet.ProtoICMP && d.dstPort != f.o.port {
		return fmt.Errorf("%s: came to port %d", f, d.dstPort)
	}
	if f.ext == (endpoint{}) {
		f.ext = d.from()
		f.own(f.proto, f.ext, endpoint{f.pod.addr, f.podPort})
	}
	if f.ext != d.from() {
		return fmt.Errorf("%s: left as %s and then as %s", f, f.ext, d.from())
	}
	return nil
}

// assemble is a datagram as it is sent.
func assemble(ip packettest.IPv4, transport []packettest.Layer) *datagram {
	d, _ := parse(packettest.Frame(append([]packettest.Layer{ip}, transport...)...))
	return &d
}

// inward sends a datagram from outside to what the pod is called there, and
// expects it at the pod.
func (f *flow) inward() error {
	if f.proto == packet.ProtoTCP {
		return f.segmentIn(packet.TCPPsh|packet.TCPAck, newTag())
	}
	return f.inwardFrom(f.o)
}

// inwardFrom is inward from another endpoint outside.
func (f *flow) inwardFrom(o endpoint) error {
	tag := newTag()
	ip := packettest.IPv4{Src: o.addr, Dst: f.ext.addr, Proto: f.proto}
	transport := f.transportIn(o.port, tag)
	f.said = assemble(ip, transport)
	if err := f.out.send(ip, transport...); err != nil {
		return err
	}
	return f.arrives(o, func(d *datagram) bool { return d.carries(tag) })
}

func (f *flow) transportIn(srcPort uint16, payload []byte) []packettest.Layer {
	data := packettest.Payload(payload)
	switch f.proto {
	case packet.ProtoUDP:
		return []packettest.Layer{packettest.UDP{Src: srcPort, Dst: f.ext.port}, data}
	case packet.ProtoICMP:
		return []packettest.Layer{packettest.ICMP{Type: packet.ICMPEchoReply, ID: f.ext.port, Seq: 1}, data}
	case packet.ProtoSCTP:
		return []packettest.Layer{packettest.SCTP{Src: srcPort, Dst: f.ext.port, Tag: f.oSeq}, packettest.SCTPData{TSN: 1}, data}
	}
	return []packettest.Layer{data}
}

// arrives expects a datagram from outside at the pod, addressed to it and its port.
func (f *flow) arrives(o endpoint, match func(*datagram) bool) error {
	what := fmt.Sprintf("%s from %s to %s", protoName(f.proto), o, f.ext)
	d, err := f.expect(f.pod, what, match)
	if err != nil {
		return err
	}
	f.got = d
	if want := (endpoint{f.pod.addr, f.podPort}); d.to() != want {
		return fmt.Errorf("%s: came to %s, not to %s", what, d.to(), want)
	}
	if d.src != o.addr || f.proto != packet.ProtoICMP && d.srcPort != o.port {
		return fmt.Errorf("%s: came from %s", what, d.from())
	}
	return nil
}

// both sends a datagram out and one in.
func (f *flow) both() error { return firstError(f.outward, f.inward) }

// openAll opens flows.
func openAll(flows ...*flow) error {
	for _, f := range flows {
		if err := f.open(); err != nil {
			return err
		}
	}
	return nil
}

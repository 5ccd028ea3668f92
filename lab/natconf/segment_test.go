package natconf

import (
	"ringway/packet"
	"ringway/packet/packettest"
)

// segmentOut sends a TCP segment from the pod and expects it outside.
func (f *flow) segmentOut(flags uint8, data []byte) error {
	seq := f.podSeq
	f.podSeq += length(flags, data)
	return f.segmentOutAt(seq, flags, data)
}

// segmentOutAt sends it with a sequence number that need not be the next one.
func (f *flow) segmentOutAt(seq uint32, flags uint8, data []byte) error {
	tcp := packettest.TCP{Src: f.podPort, Dst: f.o.port, Seq: seq, Ack: ackOf(flags, f.oSeq), Flags: flags}
	return f.out1(packettest.IPv4{}, []packettest.Layer{tcp, packettest.Payload(data)}, isSegment(seq, flags))
}

// segmentIn sends a TCP segment from outside and expects it at the pod.
func (f *flow) segmentIn(flags uint8, data []byte) error {
	seq := f.oSeq
	f.oSeq += length(flags, data)
	return f.segmentInAt(seq, flags, data)
}

func (f *flow) segmentInAt(seq uint32, flags uint8, data []byte) error {
	if err := f.launchSegment(seq, flags, data); err != nil {
		return err
	}
	return f.arrives(f.o, isSegment(seq, flags))
}

// launchSegment sends a TCP segment from outside.
func (f *flow) launchSegment(seq uint32, flags uint8, data []byte) error {
	ip := packettest.IPv4{Src: f.o.addr, Dst: f.ext.addr, Proto: packet.ProtoTCP}
	tcp := packettest.TCP{Src: f.o.port, Dst: f.ext.port, Seq: seq, Ack: ackOf(flags, f.podSeq), Flags: flags}
	f.said = assemble(ip, []packettest.Layer{tcp, packettest.Payload(data)})
	return f.out.send(ip, tcp, packettest.Payload(data))
}

func isSegment(seq uint32, flags uint8) func(*datagram) bool {
	return func(d *datagram) bool { return d.proto == packet.ProtoTCP && d.seq == seq && d.flags == flags }
}

// length is what a segment counts for in sequence numbers.
func length(flags uint8, data []byte) uint32 {
	n := uint32(len(data))
	if flags&packet.TCPSyn != 0 {
		n++
	}
	if flags&packet.TCPFin != 0 {
		n++
	}
	return n
}

// ackOf is the acknowledgment number that goes with the flags.
func ackOf(flags uint8, next uint32) uint32 {
	if flags&packet.TCPAck == 0 {
		return 0
	}
	return next
}

const (
	syn    = packet.TCPSyn
	synAck = packet.TCPSyn | packet.TCPAck
	ack    = packet.TCPAck
	finAck = packet.TCPFin | packet.TCPAck
)

// out and in are segments without data, as steps of a sequence.
func (f *flow) outSegment(flags uint8) func() error {
	return func() error { return f.segmentOut(flags, nil) }
}

func (f *flow) inSegment(flags uint8) func() error {
	return func() error { return f.segmentIn(flags, nil) }
}

// handshake opens a connection from the pod.
func (f *flow) handshake() error {
	return firstError(f.outSegment(syn), f.inSegment(synAck), f.outSegment(ack))
}

// close ends a connection, the pod's side first.
func (f *flow) close() error {
	return firstError(f.outSegment(finAck), f.inSegment(ack), f.inSegment(finAck), f.outSegment(ack))
}

package nat

import "ringway/packet"

// Class is a protocol whose ports are allocated on their own: TCP port 5000 and
// UDP port 5000 of one address have nothing to do with each other.
type Class uint8

// The classes, in the order of the port maps that XDP reads.
const (
	ClassTCP Class = iota
	ClassUDP
	ClassICMP // its "port" is the id of an echo
	ClassSCTP

	Classes = 4
)

// ClassOf is the class of an IP protocol. One without ports has none, and cannot
// be translated together with the address.
func ClassOf(proto uint8) (Class, bool) {
	switch proto {
	case packet.ProtoTCP:
		return ClassTCP, true
	case packet.ProtoUDP:
		return ClassUDP, true
	case packet.ProtoICMP:
		return ClassICMP, true
	case packet.ProtoSCTP:
		return ClassSCTP, true
	}
	return 0, false
}

// Proto is the IP protocol of a class.
func (c Class) Proto() uint8 {
	return [Classes]uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoSCTP}[c%Classes]
}

func (c Class) String() string { return [Classes]string{"tcp", "udp", "icmp", "sctp"}[c%Classes] }

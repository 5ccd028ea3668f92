package packettest

import "ringway/packet"

// Mend gives a copy of a frame with the checksum of its IPv4 header put right,
// if it has one: fuzzing would else hardly ever get past it.
func Mend(frame []byte) []byte {
	c := append([]byte{}, frame...)
	if len(c) < packet.EthernetLen+packet.IPv4MinLen || packet.Ethernet(c).EtherType() != packet.EtherTypeIPv4 {
		return c
	}
	h := packet.IPv4(c[packet.EthernetLen:])
	if n := h.HeaderLen(); n >= packet.IPv4MinLen && n <= len(h) {
		h.SetChecksum(0)
		h.SetChecksum(^slowSum(h[:n]))
	}
	return c
}

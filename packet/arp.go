package packet

import "encoding/binary"

// ARP operations (RFC 826).
const (
	ARPRequest uint16 = 1
	ARPReply   uint16 = 2
)

// ARP is a view of an ARP packet for Ethernet and IPv4 (RFC 826). The slice
// holds at least ARPLen bytes.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|         Hardware Type         |         Protocol Type         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  HW Addr Len  | Proto Addr Len|           Operation           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                     Sender Hardware Address                   |
//	+                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                               |    Sender Protocol Address    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|   Sender Protocol Address     |                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//	|                     Target Hardware Address                   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                    Target Protocol Address                    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type ARP []byte

// arpEthernetIPv4 is the first six bytes of every ARP packet that we read:
// hardware type 1, protocol type 0x0800, address lengths 6 and 4.
const arpEthernetIPv4 = 0x0001_0800_0604

// Valid reports whether the packet is long enough and of Ethernet and IPv4
// addresses.
func (a ARP) Valid() bool {
	return len(a) >= ARPLen && binary.BigEndian.Uint64(a[0:8])>>16 == arpEthernetIPv4
}

// Operation is ARPRequest, ARPReply or something that is none of our business.
func (a ARP) Operation() uint16 { return binary.BigEndian.Uint16(a[6:8]) }

// SenderMAC is the sender's hardware address.
func (a ARP) SenderMAC() MAC { return MAC(a[8:14]) }

// SenderIP is the sender's IPv4 address; 0 in a probe (RFC 5227).
func (a ARP) SenderIP() uint32 { return binary.BigEndian.Uint32(a[14:18]) }

// TargetMAC is the target's hardware address; no meaning in a request.
func (a ARP) TargetMAC() MAC { return MAC(a[18:24]) }

// TargetIP is the IPv4 address that is asked for or answered to.
func (a ARP) TargetIP() uint32 { return binary.BigEndian.Uint32(a[24:28]) }

// Encode writes a whole ARP packet.
func (a ARP) Encode(operation uint16, senderMAC MAC, senderIP uint32, targetMAC MAC, targetIP uint32) {
	binary.BigEndian.PutUint64(a[0:8], arpEthernetIPv4<<16|uint64(operation))
	copy(a[8:14], senderMAC[:])
	binary.BigEndian.PutUint32(a[14:18], senderIP)
	copy(a[18:24], targetMAC[:])
	binary.BigEndian.PutUint32(a[24:28], targetIP)
}

package xdpprog

import "encoding/binary"

// MaxSlot is the highest slot that an address can name: 24 bits.
const MaxSlot = 1<<24 - 1

// SlotMAC is the link-layer address 02:52:57:ss:ss:ss of the pod in a slot, of
// which ss:ss:ss is the slot, big endian. Slots range from 0 to [MaxSlot]; higher
// bits are not looked at. trunk.c holds the same prefix.
func SlotMAC(slot uint32) [6]byte {
	return [6]byte{0x02, 0x52, 0x57, byte(slot >> 16), byte(slot >> 8), byte(slot)}
}

// MACSlot is the slot that an address names; ok is false for an address that
// [SlotMAC] does not give.
func MACSlot(mac [6]byte) (slot uint32, ok bool) {
	slot = uint32(mac[3])<<16 | uint32(mac[4])<<8 | uint32(mac[5])
	return slot, mac == SlotMAC(slot)
}

// FrameSlot is the slot that the source address of an Ethernet frame of at least
// 14 bytes names; ok is false for an address that [SlotMAC] does not give.
func FrameSlot(frame []byte) (slot uint32, ok bool) {
	v := binary.BigEndian.Uint64(frame[6:14]) >> 16
	return uint32(v) & MaxSlot, v>>24 == slotPrefix
}

// slotPrefix is 02:52:57.
const slotPrefix = 0x025257

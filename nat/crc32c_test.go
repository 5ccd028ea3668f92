package nat

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// The twin computes both checksums of the whole message.
func TestCRC32cChange(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	lengths := []int{4, 5, 11, 12, 13, 1400, 4095, 4096, 4099, 4100, 4101, 8196, 8197, 65515}
	for range 300 {
		lengths = append(lengths, 4+r.IntN(3000))
	}
	for _, n := range lengths {
		message := make([]byte, n)
		for i := range message {
			message[i] = byte(r.Uint32())
		}
		before := crc32.Checksum(message, castagnoli)
		diff := r.Uint32()
		for i := range 4 {
			message[i] ^= byte(diff >> (24 - 8*i))
		}
		if got, want := crc32cChange(diff, n), before^crc32.Checksum(message, castagnoli); got != want {
			t.Fatalf("%d bytes, first word changed by %#08x: checksum changes by %#08x, want %#08x", n, diff, got, want)
		}
	}
	if crc32cChange(0, 100) != 0 {
		t.Error("no change changes the checksum")
	}
}

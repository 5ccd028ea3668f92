package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"ringway/packet"
)

// slowSum is RFC 1071 word by word: the twin of packet.Sum.
func slowSum(b []byte) uint16 {
	var sum uint64
	for i, v := range b {
		if i%2 == 0 {
			sum += uint64(v) << 8
		} else {
			sum += uint64(v)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestSumIsTheSlowSumAtEveryLengthAndAlignment(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b := make([]byte, 400)
	for round := range 40 {
		for i := range b {
			b[i] = byte(r.Uint32())
			if round%4 == 0 {
				b[i] = 0xff // every step carries
			}
		}
		for n := range 300 {
			at := r.IntN(16)
			initial := r.Uint32()
			words := binary.BigEndian.AppendUint32(nil, initial)
			want := slowSum(append(words, b[at:at+n]...))
			if got := packet.Fold(packet.Sum(b[at:at+n], initial)); got != want {
				t.Fatalf("%d bytes at %d with initial %#x: got %#04x, want %#04x", n, at, initial, got, want)
			}
		}
	}
}

func TestSumOfPiecesIsTheSumOfTheWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 1501)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for range 1000 {
		cut := r.IntN(len(b)/2) * 2
		if got, want := packet.Fold(packet.Sum(b[cut:], packet.Sum(b[:cut], 0))), slowSum(b); got != want {
			t.Fatalf("cut at %d: got %#04x, want %#04x", cut, got, want)
		}
	}
}

// RFC 1624 section 4 shows why equation 3 and not RFC 1141's: this update must
// give 0x0000, not 0xffff.
func TestUpdate16GivesTheExampleOfRFC1624(t *testing.T) {
	if got := packet.Update16(0xdd2f, 0x5555, 0x3285); got != 0 {
		t.Fatalf("got %#04x, want 0", got)
	}
}

func TestUpdateIsTheFullSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	extremes := []uint32{0, 0xffff, 0xffff0000, 0xffffffff, 1, 0x00010000}
	for range 200_000 {
		b := make([]byte, 20)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[19] |= 1 // never all zero: no header is
		old, to := binary.BigEndian.Uint32(b[4:8]), r.Uint32()
		if r.IntN(4) == 0 {
			to = extremes[r.IntN(len(extremes))]
		}
		before := ^slowSum(b)
		binary.BigEndian.PutUint32(b[4:8], to)
		want := ^slowSum(b)
		if got := packet.Update32(before, old, to); got != want {
			t.Fatalf("Update32(%#04x, %#x, %#x) = %#04x, want %#04x", before, old, to, got, want)
		}
		twice := packet.Update16(packet.Update16(before, uint16(old>>16), uint16(to>>16)), uint16(old), uint16(to))
		if twice != want {
			t.Fatalf("Update16 twice from %#04x, %#x to %#x: %#04x, want %#04x", before, old, to, twice, want)
		}
	}
}

func TestL4ChecksumCoversPseudoHeaderAndSegment(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	for n := 8; n < 200; n++ {
		segment := make([]byte, n)
		for i := range segment {
			segment[i] = byte(r.Uint32())
		}
		src, dst := r.Uint32(), r.Uint32()
		pseudo := binary.BigEndian.AppendUint32(nil, src)
		pseudo = binary.BigEndian.AppendUint32(pseudo, dst)
		pseudo = append(pseudo, 0, packet.ProtoTCP, byte(n>>8), byte(n))
		want := ^slowSum(append(pseudo, segment...))
		if got := packet.L4Checksum(src, dst, packet.ProtoTCP, segment); got != want {
			t.Fatalf("%d bytes: got %#04x, want %#04x", n, got, want)
		}
	}
}

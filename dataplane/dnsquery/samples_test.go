package dnsquery

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"
)

func TestSamplesAreSome(t *testing.T) {
	s := NewSamples(0, 0)
	now := 5 * second
	for i := range 640 {
		s.Offer(3, 2, binary.BigEndian.AppendUint32(nil, uint32(i)), now)
	}
	var got []uint32
	s.Drain(func(x *Sample) {
		got = append(got, binary.BigEndian.Uint32(x.Payload()))
		if x.Slot != 3 || x.Redirect != 2 || x.At != now || x.Length != 4 {
			t.Errorf("%+v", x)
		}
	})
	// The first ever, and each 64th.
	if len(got) != 11 || got[0] != 0 || got[1] != 63 || got[10] != 639 {
		t.Errorf("%v", got)
	}
	// A pod that seldom asks is heard: one a second.
	n := 0
	for range 30 {
		now += second / 2
		s.Offer(0, 0, nil, now)
		n += s.Drain(func(*Sample) {})
	}
	if n != 15 {
		t.Errorf("%d of 30 in 15 seconds", n)
	}
}

func TestSamplesAreBounded(t *testing.T) {
	s := NewSamples(5, 1)
	long := bytes.Repeat([]byte{7}, 2000)
	for range 20 {
		s.Offer(0, 0, long, second)
	}
	n := s.Drain(func(x *Sample) {
		if x.Length != 2000 || !bytes.Equal(x.Payload(), long[:SampleBytes]) {
			t.Errorf("%d of %d bytes", len(x.Payload()), x.Length)
		}
	})
	if n != 8 || s.Lost() != 12 {
		t.Errorf("%d samples, %d lost", n, s.Lost())
	}
	if n := s.Drain(func(*Sample) {}); n != 0 {
		t.Errorf("%d more", n)
	}
}

// TestSamplesOfTwoThreads are whole and in order, and all that are not there are
// lost by count.
func TestSamplesOfTwoThreads(t *testing.T) {
	const all = 100_000
	s := NewSamples(16, 1)
	var done sync.WaitGroup
	done.Go(func() {
		payload := make([]byte, 100)
		for i := range uint32(all) {
			for at := 0; at < len(payload); at += 4 {
				binary.BigEndian.PutUint32(payload[at:], i)
			}
			s.Offer(i, 0, payload, second)
		}
	})
	got, next := 0, uint32(0)
	read := func(x *Sample) {
		got++
		if x.Slot < next {
			t.Errorf("%d after %d", x.Slot, next)
		}
		next = x.Slot + 1
		for at := 0; at < 100; at += 4 {
			if binary.BigEndian.Uint32(x.Payload()[at:]) != x.Slot {
				t.Fatalf("% x is torn", x.Payload())
			}
		}
	}
	for got+int(s.Lost()) < all {
		s.Drain(read)
	}
	done.Wait()
	if got == 0 || got+int(s.Lost()) != all {
		t.Errorf("%d read, %d lost", got, s.Lost())
	}
}

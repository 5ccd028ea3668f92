package sink_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"ringway/bench/chain"
	"ringway/bench/sink"
	"ringway/internal/netnstest"
)

func send(t testing.TB, s *sink.Sink, frame []byte, times int) {
	t.Helper()
	if err := s.Send(frame, times); err != nil {
		t.Fatal(err)
	}
}

func newSink(t testing.TB, e chain.Expect) *sink.Sink {
	t.Helper()
	netnstest.Root(t)
	s, err := sink.Load(sink.Options{Frame: e.Frame, Mask: e.Mask, FlowAt: flowAt})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestCountsByByte(t *testing.T) {
	for _, row := range chain.Rows() {
		e := chain.Traffic{Row: row, Size: 64, Flows: 1}.Routed() // answers have their own size
		s := newSink(t, e)
		compared := sink.Compared(len(e.Frame))
		var want sink.Counts
		for i := range e.Frame {
			if i == 12 || i == 13 || i == 14 {
				continue // another EtherType, or a test run that refuses the frame
			}
			frame := bytes.Clone(e.Frame)
			frame[i] ^= 0x01
			send(t, s, frame, 1)
			if i >= compared || e.Mask[i]&0x01 == 0 {
				want.Good++
				want.Bytes += uint64(len(frame))
			} else {
				want.Bad++
			}
			if got, err := s.Counts(); err != nil || got != want {
				t.Fatalf("%s, byte %d changed: %+v, %v; want %+v", row, i, got, err, want)
			}
		}
	}
}

func TestLengthCounts(t *testing.T) {
	e := chain.Traffic{Row: chain.Forward, Size: 1400, Flows: 1}.Routed()
	s := newSink(t, e)
	send(t, s, e.Frame, 10)
	send(t, s, e.Frame[:1399], 1)
	send(t, s, append(bytes.Clone(e.Frame), 0), 1)
	send(t, s, e.Frame[:60], 1)
	want := sink.Counts{Good: 10, Bytes: 14000, Bad: 3}
	if got, err := s.Counts(); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestOtherProtocolsAreNotCounted(t *testing.T) {
	e := chain.Traffic{Row: chain.Forward, Size: 64, Flows: 1}.Routed()
	s := newSink(t, e)
	arp := bytes.Clone(e.Frame)
	arp[12], arp[13] = 0x08, 0x06
	send(t, s, arp, 1)
	if got, err := s.Counts(); err != nil || got != (sink.Counts{}) {
		t.Errorf("%+v, %v; want none", got, err)
	}
}

// flowAt is where a plain frame has the number of its flow.
const flowAt = 42

func TestFlowsAreCountedOnceAndOnDemand(t *testing.T) {
	e := chain.Traffic{Row: chain.Forward, Size: 64, Flows: 1 << 16}.Routed()
	s := newSink(t, e)
	frame := bytes.Clone(e.Frame)
	flows := func(numbers ...uint32) {
		for _, n := range numbers {
			binary.BigEndian.PutUint32(frame[flowAt:], n)
			send(t, s, frame, 3)
		}
	}
	want := func(n int) {
		t.Helper()
		if got, err := s.Flows(); err != nil || got != n {
			t.Errorf("%d flows, %v; want %d", got, err, n)
		}
	}
	mark := func(on bool) {
		if err := s.Mark(on); err != nil {
			t.Fatal(err)
		}
	}
	flows(1, 2)
	want(0)
	mark(true)
	flows(2, 3, 2, 0, 99999, 65536+3)
	want(5)
	frame[0]++ // not a good frame any more
	flows(4)
	frame[0]--
	want(5)
	mark(false)
	flows(5)
	want(5)
}

// BenchmarkSink says what counting and comparing a frame costs the DUT's CPU.
func BenchmarkSink(b *testing.B) {
	for _, row := range []chain.Row{chain.Forward, chain.Encap} {
		b.Run(string(row), func(b *testing.B) {
			e := chain.Traffic{Row: row, Size: 64, Flows: 1}.Routed()
			s := newSink(b, e)
			b.ResetTimer()
			send(b, s, e.Frame, b.N)
		})
	}
}

package peer

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"ringway/bench/chain"
	"ringway/dataplane/port"
)

func TestLimitCarriesEveryRow(t *testing.T) {
	for _, layout := range []string{chain.OneCore, chain.Split} {
		carriesRows(t, NewLimit(), layout)
	}
}

// broken claims to be a router and is not.
func broken(w work) *Limit { return &Limit{work: w, output: chain.Traffic.Routed} }

// routed does what a router would, and then spoil to each frame.
func routed(spoil func(f []byte)) work {
	return func(pool *port.Pool, frames []port.Desc) int {
		for i := range frames {
			addr := frames[i].Addr
			f := pool.Chunk(addr)[addr-pool.Base(addr):]
			copy(f, chain.MACSink[:])
			copy(f[6:], chain.MACB[:])
			f[22]--
			// The checksum grows by what TTL and protocol lost: 0x0100.
			addToChecksum(f, 0x0100)
			spoil(f)
		}
		return len(frames)
	}
}

// addToChecksum adds to the IPv4 checksum what was taken from words under it.
func addToChecksum(f []byte, n uint32) {
	sum := uint32(binary.BigEndian.Uint16(f[24:])) + n
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(f[24:], uint16(sum))
}

// masqueraded does what SNAT would, with a source port that port chooses by flow.
func masqueraded(port func(flow uint32) uint16) work {
	return routed(func(f []byte) {
		src := chain.AddrB.As4()
		for i := range 2 {
			was, is := f[26+2*i:28+2*i], src[2*i:2*i+2]
			addToChecksum(f, uint32(binary.BigEndian.Uint16(was)))
			addToChecksum(f, uint32(^binary.BigEndian.Uint16(is)))
			copy(was, is)
		}
		binary.BigEndian.PutUint16(f[34:], port(binary.BigEndian.Uint32(f[42:])))
	})
}

var plain64 = chain.Traffic{Row: chain.Forward, Size: 64, Flows: 100}

func TestRightFramesPass(t *testing.T) {
	c := newChain(t, broken(routed(func([]byte) {})), plain64, chain.Split)
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.Measure(t.Context(), 100*time.Millisecond); err != nil {
		t.Error(err)
	}
}

func TestWrongFramesAreAnError(t *testing.T) {
	for _, c := range []struct {
		name    string
		spoil   func(f []byte)
		check   string // what the content check says
		counted bool   // the sink's program takes it for good: too deep for it
	}{
		{"destination MAC", func(f []byte) { f[5]++ }, "destination MAC", false},
		{"source MAC", func(f []byte) { f[11]++ }, "source MAC", false},
		{"TTL", func(f []byte) { f[22]++; f[24]-- }, "TTL", false},
		{"IPv4 checksum", func(f []byte) { f[25] ^= 1 }, "checksum", true},
		{"source port", func(f []byte) { f[35] ^= 0x80 }, "source port", true},
		{"payload", func(f []byte) { f[60]++ }, "byte 60", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := newChain(t, broken(routed(c.spoil)), plain64, chain.Split)
			if err := ch.Check(t.Context()); err == nil || !strings.Contains(err.Error(), c.check) {
				t.Errorf("content check: %v; must name %q", err, c.check)
			}
			_, err := ch.Measure(t.Context(), 200*time.Millisecond)
			if (err == nil) != c.counted {
				t.Errorf("measure: %v", err)
			}
		})
	}
}

// A device that does not masquerade as it should gets no figure.
func TestWrongMasqueradingIsAnError(t *testing.T) {
	traffic := chain.Traffic{Row: chain.Masquerade, Size: 64, Flows: 100}
	next := uint16(1024)
	for _, c := range []struct {
		name  string
		work  work
		check string // what the content check says; "": all is well
	}{
		{"a port for each flow", masqueraded(func(flow uint32) uint16 { return 1024 + uint16(flow) }), ""},
		{"a port for each flow to a destination", masqueraded(func(flow uint32) uint16 { return 1024 + uint16(flow/16) }), ""},
		{"not translated", routed(func([]byte) {}), "source address"},
		{"one port for all", masqueraded(func(uint32) uint16 { return 1024 }), "the same source port 1024"},
		{"a port for each packet", masqueraded(func(uint32) uint16 { next++; return next }), "before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := newChain(t, broken(c.work), traffic, chain.Split)
			// The flows are 100 and the samples 32, so that they are not in one burst.
			var err error
			for range 10 {
				if err = ch.Check(t.Context()); err != nil {
					break
				}
			}
			if c.check == "" && err != nil || c.check != "" && (err == nil || !strings.Contains(err.Error(), c.check)) {
				t.Errorf("content check: %v; must name %q", err, c.check)
			}
		})
	}
	ch := newChain(t, broken(routed(func([]byte) {})), traffic, chain.Split)
	if rate, err := ch.Measure(t.Context(), 50*time.Millisecond); err == nil {
		t.Errorf("not translated: %v Mpps", rate.PPS/1e6)
	}
}

func TestSilenceIsAnError(t *testing.T) {
	silent := broken(func(pool *port.Pool, frames []port.Desc) int {
		for _, f := range frames {
			pool.Put(f.Addr)
		}
		return 0
	})
	c := newChain(t, silent, plain64, chain.Split)
	if rate, err := c.Measure(t.Context(), 50*time.Millisecond); err == nil {
		t.Errorf("measure: %v Mpps", rate.PPS/1e6)
	}
	if err := c.Check(t.Context()); err == nil {
		t.Error("the content check passed")
	}
}

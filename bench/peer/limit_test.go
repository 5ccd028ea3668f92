package peer

import (
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

// routed does what a router would, except for what spoil does to each frame.
func routed(spoil func(f []byte)) work {
	return func(pool *port.Pool, frames []port.Desc) int {
		for i := range frames {
			addr := frames[i].Addr
			f := pool.Chunk(addr)[addr-pool.Base(addr):]
			copy(f, chain.MACSink[:])
			copy(f[6:], chain.MACB[:])
			f[22]--
			// The checksum grows by what TTL and protocol lost: 0x0100.
			sum := uint32(f[24])<<8 | uint32(f[25])
			sum += 0x0100
			sum = sum&0xffff + sum>>16
			f[24], f[25] = byte(sum>>8), byte(sum)
			spoil(f)
		}
		return len(frames)
	}
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
			_, err := ch.Measure(t.Context(), 50*time.Millisecond)
			if (err == nil) != c.counted {
				t.Errorf("measure: %v", err)
			}
		})
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

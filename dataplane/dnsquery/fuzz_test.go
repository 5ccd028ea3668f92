package dnsquery

import (
	"encoding/binary"
	"testing"
)

func FuzzHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, ok := ParseHeader(payload)
		if ok != (len(payload) >= HeaderLen) {
			t.Fatalf("%d bytes: %v", len(payload), ok)
		}
		if !ok {
			return
		}
		flags := binary.BigEndian.AppendUint16(nil, h.Flags)
		if h.Response() != (flags[0] >= 0x80) || h.Opcode() != flags[0]/8%16 || h.RCode() != flags[1]%16 || h.Truncated() != (flags[0]/2%2 == 1) {
			t.Fatalf("%+v", h)
		}
		back := binary.BigEndian.AppendUint16(nil, h.ID)
		back = append(back, flags...)
		back = binary.BigEndian.AppendUint16(back, h.Questions)
		if string(back) != string(payload[:6]) {
			t.Fatalf("% x read as % x", payload[:6], back)
		}
	})
}

// FuzzTable plays what the bytes say to a table and its twin.
func FuzzTable(f *testing.F) {
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 4096 {
			choices = choices[:4096]
		}
		r := newRival(t, small, func(n int) int {
			if len(choices) == 0 {
				return 0
			}
			c := choices[0]
			choices = choices[1:]
			return int(c) % n
		})
		for len(choices) > 0 {
			r.step()
		}
		r.compareCounts()
	})
}

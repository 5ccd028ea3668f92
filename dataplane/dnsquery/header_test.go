package dnsquery

import "testing"

func TestHeader(t *testing.T) {
	for name, c := range map[string]struct {
		payload       []byte
		ok            bool
		header        Header
		response, cut bool
		opcode, rcode uint8
	}{
		"query":     {payload: []byte{0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1}, ok: true, header: Header{0x1234, 0x0120, 1}},
		"nxdomain":  {payload: []byte{0, 7, 0x81, 0x83, 0, 1, 0, 0, 0, 1, 0, 0}, ok: true, header: Header{7, 0x8183, 1}, response: true, rcode: 3},
		"truncated": {payload: []byte{0, 7, 0x83, 0x80, 0, 1, 0, 0, 0, 1, 0, 0}, ok: true, header: Header{7, 0x8380, 1}, response: true, cut: true},
		"update":    {payload: []byte{0, 7, 0x28, 0, 0, 1, 0, 0, 0, 1, 0, 0}, ok: true, header: Header{7, 0x2800, 1}, opcode: 5},
		"short":     {payload: make([]byte, 11)},
		"empty":     {},
	} {
		h, ok := ParseHeader(c.payload)
		if h != c.header || ok != c.ok {
			t.Errorf("%s: %+v %v", name, h, ok)
		}
		if h.Response() != c.response || h.Truncated() != c.cut || h.Opcode() != c.opcode || h.RCode() != c.rcode {
			t.Errorf("%s: %v %v %d %d", name, h.Response(), h.Truncated(), h.Opcode(), h.RCode())
		}
	}
}

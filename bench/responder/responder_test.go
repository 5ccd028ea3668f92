package responder_test

import (
	"bytes"
	"testing"

	"ringway/bench/chain"
	"ringway/bench/responder"
	"ringway/internal/netnstest"
)

// asked is a query that goes to the service, with a UDP checksum or without.
func asked(checksum bool) (query, answer []byte) {
	traffic := chain.Traffic{Row: chain.DNSRedirect, Size: chain.QuerySize, Flows: 1, Checksum: checksum}
	return traffic.Offered(), traffic.Routed().Frame
}

// The program of a server with the service's own address makes the very answer that
// the client is to get, but for the hops that make the TTL less.
func TestAnswers(t *testing.T) {
	netnstest.Root(t)
	r, err := responder.Load(chain.Service)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, checksum := range []bool{false, true} {
		query, want := asked(checksum)
		got, sent, err := r.Respond(query)
		if err != nil || !sent {
			t.Fatalf("sent %t, %v", sent, err)
		}
		copy(want[22:26], query[22:26]) // TTL, protocol, checksum
		if !bytes.Equal(got, want) {
			t.Errorf("checksum %t:\n%x, want\n%x", checksum, got, want)
		}
	}
}

func TestWhatIsNotAnswered(t *testing.T) {
	netnstest.Root(t)
	r, err := responder.Load(chain.Service)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, change := range map[string]func(f []byte) []byte{
		"to another address": func(f []byte) []byte { f[33]++; return f },
		"to another port":    func(f []byte) []byte { f[37]++; return f },
		"TCP":                func(f []byte) []byte { f[23] = 6; return f },
		"an answer":          func(f []byte) []byte { f[44] |= 0x80; return f },
		"cut short":          func(f []byte) []byte { return f[:53] },
		"IPv6":               func(f []byte) []byte { f[12], f[13] = 0x86, 0xdd; return f },
	} {
		query, _ := asked(false)
		if _, sent, err := r.Respond(change(query)); err != nil || sent {
			t.Errorf("%s: sent %t, %v", name, sent, err)
		}
	}
}

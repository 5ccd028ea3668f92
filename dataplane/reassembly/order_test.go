package reassembly

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"ringway/packet"
	pt "ringway/packet/packettest"
)

// whole are datagrams of 8000 bytes of every protocol, and the tuple that all of
// their fragments have to have.
var whole = map[string]struct {
	layers []pt.Layer
	want   packet.Tuple
}{
	"UDP": {
		[]pt.Layer{ip(packet.ProtoUDP, 7), pt.UDP{Src: 5000, Dst: 53}, pt.Bytes(8000)},
		packet.Tuple{Src: client, Dst: server, SrcPort: 5000, DstPort: 53, Proto: packet.ProtoUDP},
	},
	"TCP": {
		[]pt.Layer{ip(packet.ProtoTCP, 7), pt.TCP{Src: 5000, Dst: 443}, pt.Bytes(8000)},
		packet.Tuple{Src: client, Dst: server, SrcPort: 5000, DstPort: 443, Proto: packet.ProtoTCP},
	},
	"SCTP": {
		[]pt.Layer{ip(packet.ProtoSCTP, 7), pt.SCTP{Src: 5000, Dst: 2905, Tag: 1}, pt.Bytes(8000)},
		packet.Tuple{Src: client, Dst: server, SrcPort: 5000, DstPort: 2905, Proto: packet.ProtoSCTP},
	},
	"ICMP echo": {
		[]pt.Layer{ip(packet.ProtoICMP, 7), pt.ICMP{Type: packet.ICMPEcho, ID: 77, Seq: 1}, pt.Bytes(8000)},
		packet.Tuple{Src: client, Dst: server, SrcPort: 77, Proto: packet.ProtoICMP},
	},
	"ICMP echo reply": {
		[]pt.Layer{ip(packet.ProtoICMP, 7), pt.ICMP{Type: packet.ICMPEchoReply, ID: 77, Seq: 1}, pt.Bytes(8000)},
		packet.Tuple{Src: client, Dst: server, DstPort: 77, Proto: packet.ProtoICMP},
	},
	"GRE": {
		[]pt.Layer{ip(packet.ProtoGRE, 7), pt.Bytes(8000)},
		packet.Tuple{Src: client, Dst: server, Proto: packet.ProtoGRE},
	},
}

// permutations of the numbers below n.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(p), at, n-1))
		}
	}
	return all
}

// TestEveryOrder plays four fragments in each of their 24 orders: each passes
// exactly once, with the ports of the datagram and not a byte changed.
func TestEveryOrder(t *testing.T) {
	for name, c := range whole {
		all := fragments(t, 2100, c.layers...)
		if len(all) != 4 {
			t.Fatalf("%s: %d fragments", name, len(all))
		}
		for _, order := range permutations(4) {
			t.Run(fmt.Sprint(name, order), func(t *testing.T) {
				w := newWire(t, Options{})
				for _, i := range order {
					w.play(all[i])
				}
				w.collect()
				w.ends(4, nil)
				for number, p := range w.passed {
					if got := p.Tuple(); got != c.want {
						t.Errorf("%+v, want %+v", got, c.want)
					}
					if sent := all[order[number-1]]; !bytes.Equal(p.Bytes(), sent) {
						t.Errorf("fragment %d is not as it was sent", number)
					}
				}
				if w.table.queues[done].Len != 1 {
					t.Error("the datagram is not complete")
				}
			})
		}
	}
}

// TestEveryOrderWithADuplicate adds to each order each fragment once more, in each
// place behind.
func TestEveryOrderWithADuplicate(t *testing.T) {
	all := fragments(t, 2100, whole["UDP"].layers...)
	for _, order := range permutations(4) {
		for i, again := range order {
			for at := i + 1; at <= 4; at++ {
				w := newWire(t, Options{})
				for _, k := range slices.Insert(slices.Clone(order), at, again) {
					w.play(all[k])
				}
				w.collect()
				w.ends(4, map[packet.Reason]int{packet.FragmentDuplicate: 1})
			}
		}
	}
}

// TestEveryOrderAtAnEthernetsMTU is 8000 bytes of UDP in six pieces, 720 orders.
// Packets that wait come out in the order in which they came.
func TestEveryOrderAtAnEthernetsMTU(t *testing.T) {
	all := fragments(t, 1500, whole["UDP"].layers...)
	for _, order := range permutations(6) {
		w := newWire(t, Options{})
		first := uint64(slices.Index(order, 0)) + 1
		for n, i := range order {
			_, v := w.play(all[i])
			if (v.Action == Held) != (uint64(n+1) < first) {
				t.Fatalf("%v: %d of them has %+v", order, n, v)
			}
			if i == 0 {
				w.collect()
			}
		}
		w.ends(6, nil)
		if want := rotated(6, first); !slices.Equal(w.order, want) {
			t.Fatalf("%v: passed in the order %v, want %v", order, w.order, want)
		}
	}
}

// rotated is the first fragment, those that waited for it, and those behind it.
func rotated(n int, first uint64) []uint64 {
	o := []uint64{first}
	for i := uint64(1); i <= uint64(n); i++ {
		if i != first {
			o = append(o, i)
		}
	}
	return o
}

// TestUser: what the caller leaves in a datagram is there for each of its later
// fragments, and nowhere else.
func TestUser(t *testing.T) {
	all := fragments(t, 2100, whole["UDP"].layers...)
	w := newWire(t, Options{Datagrams: 1})
	for round := range 3 {
		w.play(all[2])
		_, v := w.play(all[0])
		if v.Datagram.User != 0 {
			t.Fatalf("round %d: a new datagram has %d", round, v.Datagram.User)
		}
		v.Datagram.User = 42
		if n := w.table.Released(&w.batch, &w.of); n != 1 || w.of[0] != v.Datagram || w.of[0].User != 42 {
			t.Fatalf("round %d: %d released, of %v", round, n, w.of[0])
		}
		delete(w.held, w.batch.Pkts[0].Addr)
		for _, i := range []int{1, 3} {
			if _, v := w.play(all[i]); v.Datagram.User != 42 {
				t.Fatalf("round %d: fragment %d has %d", round, i, v.Datagram.User)
			}
		}
		w.after(moment)
	}
}

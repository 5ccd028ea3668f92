package hostports

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBusy(t *testing.T) {
	const node, dedicated = 198<<24 | 51<<16 | 100<<8 | 7, 198<<24 | 51<<16 | 100<<8 | 200
	sockets := []Socket{
		tcp(0, 22), tcp(loopback, 631), tcp(node, 50000), tcp(node, 22), tcp(dedicated, 179),
		udp(0, 68), udp(node, 50001), udp(224<<24|251, 5353),
		{0, 3868, unix.IPPROTO_SCTP}, {node, 1, unix.IPPROTO_UDPLITE},
	}
	tests := []struct {
		name           string
		addr           uint32
		tcp, udp, sctp []Range
	}{
		{"the node's own", node, []Range{{22, 22}, {50000, 50000}}, []Range{{68, 68}, {50001, 50001}}, []Range{{3868, 3868}}},
		{"one for SNAT alone", dedicated, []Range{{22, 22}, {179, 179}}, []Range{{68, 68}}, []Range{{3868, 3868}}},
		{"one that no socket has", 1, []Range{{22, 22}}, []Range{{68, 68}}, []Range{{3868, 3868}}},
	}
	for _, test := range tests {
		gotTCP, gotUDP, gotSCTP := Busy(sockets, test.addr)
		if !slices.Equal(gotTCP.ranges(), test.tcp) || !slices.Equal(gotUDP.ranges(), test.udp) || !slices.Equal(gotSCTP.ranges(), test.sctp) {
			t.Errorf("%s: TCP %s, UDP %s, SCTP %s", test.name, gotTCP.String(), gotUDP.String(), gotSCTP.String())
		}
	}
}

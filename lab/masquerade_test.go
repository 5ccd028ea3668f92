package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ringway/control/ringwayv1"
	"ringway/packet"
	"ringway/packet/packettest"
)

// marked is the DSCP (CS1) of what tests inject in great numbers. Who gets it
// throws it away, so that it draws no answer.
const marked = 8 << 2

// discardMarked has hosts drop what is marked before their stack sees it.
func discardMarked(t *testing.T, l *Lab, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		cmd := l.Command(host, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader("table ip discard { chain in { type filter hook input priority -300; ip dscp cs1 drop; }; }")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft on %s: %v: %s", host, err, out)
		}
	}
}

// snatOnly is an address of node1 that serves SNAT alone.
var snatOnly = netip.MustParseAddr("192.168.0.200")

// addSNATAddress gives node1 the address snatOnly, and has pods leave with it,
// and with these of its ports, for ext.
func addSNATAddress(t *testing.T, l *Lab, ports string) {
	t.Helper()
	must(t, l.onLink("node1", "eth0", func(link netlink.Link) error {
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: netlink.NewIPNet(snatOnly.AsSlice())})
	}))
	useSNATAddress(t, l, ports)
}

// useSNATAddress changes which ports of snatOnly are used.
func useSNATAddress(t *testing.T, l *Lab, ports string) {
	t.Helper()
	ctx := testContext(t, 10*time.Second)
	must(t, l.SetMasquerade(ctx, "node1", map[string]any{"rules": []any{map[string]any{
		"name": "own-address", "destinations": []any{l.Address("ext").String() + "/32"},
		"action": "snat", "addresses": []any{snatOnly.String()}, "ports": ports,
	}}}))
	for poolOf(t, l, snatOnly, "udp") == nil {
		if err := pause(ctx); err != nil {
			t.Fatalf("%s is no SNAT address: %v", snatOnly, err)
		}
	}
}

// natOf is get nat of node1.
func natOf(t *testing.T, l *Lab) *ringwayv1.Nat {
	t.Helper()
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	nat, err := client.NAT(testContext(t, 10*time.Second))
	must(t, err)
	return nat
}

// poolOf is what get nat says of one protocol of an SNAT address; nil if it is
// none.
func poolOf(t *testing.T, l *Lab, address netip.Addr, protocol string) *ringwayv1.NatAddress {
	t.Helper()
	for _, a := range natOf(t, l).GetAddresses() {
		if a.GetAddress() == address.String() && a.GetProtocol() == protocol {
			return a
		}
	}
	return nil
}

// flowsOf lists the flows of node1 that a filter selects.
func flowsOf(t *testing.T, l *Lab, filter *ringwayv1.FlowFilter) []*ringwayv1.Flow {
	t.Helper()
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	var flows []*ringwayv1.Flow
	must(t, client.Flows(testContext(t, 30*time.Second), filter, func(f *ringwayv1.Flow) error {
		flows = append(flows, f)
		return nil
	}))
	return flows
}

// flush ends all flows of node1.
func flush(t *testing.T, l *Lab) {
	t.Helper()
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	_, err = client.FlushFlows(testContext(t, 10*time.Second), nil)
	must(t, err)
}

// podFrames makes marked frames of a pod.
type podFrames struct {
	in       injector
	mac      packet.MAC
	src, dst uint32
	tos      uint8
}

func newPodFrames(t *testing.T, l *Lab, pod string, to netip.Addr) podFrames {
	t.Helper()
	return podFrames{
		in: newInjector(t, l, pod, "eth0"), mac: macOf(t, l, pod, "eth0"),
		src: hostOrder(l, pod), dst: packettest.Addr(to.String()), tos: marked,
	}
}

// send sends what opens a flow: a datagram, a SYN or an echo request. Of the
// latter port is the id and to is not used.
func (f podFrames) send(proto uint8, port, to uint16) {
	f.in.t.Helper()
	eth := packettest.Eth{Dst: gatewayMAC, Src: f.mac}
	ip := packettest.IPv4{Src: f.src, Dst: f.dst, Proto: proto, TOS: f.tos, DontFragment: true}
	switch proto {
	case packet.ProtoTCP:
		f.in.send(eth, ip, packettest.TCP{Src: port, Dst: to, Flags: packet.TCPSyn})
	case packet.ProtoICMP:
		f.in.send(eth, ip, packettest.ICMP{Type: packet.ICMPEcho, ID: port})
	default:
		f.in.send(eth, ip, packettest.UDP{Src: port, Dst: to}, packettest.Payload("snat"))
	}
}

// checkHealthy wants node1 to find nothing wrong with itself.
func checkHealthy(t *testing.T, l *Lab) {
	t.Helper()
	s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
	must(t, err)
	if !s.GetHealthy() {
		t.Errorf("node1 is not healthy: %q", s.GetReasons())
	}
}

// ephemeral is an address of a host with a port that its kernel chooses.
func ephemeral(l *Lab, host string) netip.AddrPort { return netip.AddrPortFrom(l.Address(host), 0) }

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, patience time.Duration, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// protocolNames are the names that the API has.
var protocolNames = map[uint8]string{packet.ProtoTCP: "tcp", packet.ProtoUDP: "udp", packet.ProtoICMP: "icmp"}

func describePool(a *ringwayv1.NatAddress) string {
	return fmt.Sprintf("%s %s: %d used, %d held, %d free, %d of the host, of %d", a.GetAddress(), a.GetProtocol(),
		a.GetUsed(), a.GetHeld(), a.GetFree(), a.GetHost(), a.GetSize())
}

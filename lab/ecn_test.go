package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"ringway/packet"
)

// The codepoints of RFC 3168 section 5.
const (
	notECT = 0
	ect1   = 1
	ect0   = 2
	ce     = 3
)

var ecnNames = [4]string{"Not-ECT", "ECT(1)", "ECT(0)", "CE"}

const dropped = -1

// dscp is what the inner header has beside its codepoint: EF (RFC 3246), which
// a tunnel does not change.
const dscp = 46 << 2

// decapECN is the table of RFC 6040 section 4.2: arriving inner, arriving outer
// (both in the order of the codepoints), what leaves.
var decapECN = [4][4]int{
	notECT: {notECT, notECT, notECT, dropped},
	ect1:   {ect1, ect1, ect1, ce},
	ect0:   {ect0, ect1, ect0, ce},
	ce:     {ce, ce, ce, ce},
}

// TestECNIntoTheTunnel: normal mode of RFC 6040 section 4.1, the outer header
// gets the codepoint of the inner one, towards Ringway and towards Linux.
func TestECNIntoTheTunnel(t *testing.T) {
	l := agentLab(t, Options{})
	for _, to := range []string{"pod2", "pod3"} {
		wire, err := l.Capture("lan", "node1")
		must(t, err)
		inside, err := l.Capture(to, "eth0")
		must(t, err)
		p, err := l.NewPinger("pod1")
		must(t, err)
		for ecn := range 4 {
			_, err := p.Send(Probe{To: l.Address(to), TOS: byte(ecn)})
			must(t, err)
			request := func(w WirePacket) bool {
				in := w.Payload()
				return in != nil && in.ICMPType == icmpEchoRequest && in.Source == l.Address("pod1") && int(in.TOS) == ecn
			}
			w, err := wire.Wait(time.Second, request)
			if err != nil {
				t.Errorf("%s to %s: %v", ecnNames[ecn], to, err)
			} else if w.Inner == nil || int(w.Outer.TOS) != ecn {
				t.Errorf("%s to %s: on the wire %s, outer TOS %#x", ecnNames[ecn], to, w, w.Outer.TOS)
			}
			if _, err := inside.Wait(time.Second, request); err != nil {
				t.Errorf("%s in %s: %v", ecnNames[ecn], to, err)
			}
		}
		for _, c := range []*Capture{wire, inside} {
			_, err := c.Stop()
			must(t, err)
		}
		must(t, p.Close())
	}
}

// TestECNOutOfTheTunnel sends all 16 pairs of inner and outer codepoint to a
// Ringway node and to the Linux node, whose kernel is the second opinion.
func TestECNOutOfTheTunnel(t *testing.T) {
	l := agentLab(t, Options{})
	for _, c := range []struct{ sender, senderPod, receiver, pod string }{
		{"node3", "pod3", "node1", "pod1"}, // Linux to Ringway: the node under test decapsulates
		{"node1", "pod1", "node3", "pod3"},
	} {
		t.Run(c.receiver, func(t *testing.T) {
			inside, err := l.Capture(c.pod, "eth0")
			must(t, err)
			receiver, _ := nodeByName(c.receiver)
			var sent []uint16
			for inner := range 4 {
				for outer := range 4 {
					port := uint16(20000 + 4*inner + outer)
					sent = append(sent, port)
					frame := innerFrame(t, receiver.vtepMAC(), l.Address(c.senderPod), l.Address(c.pod), dscp|byte(inner), port)
					must(t, l.sendTunnel(c.sender, l.Address(c.receiver), byte(outer), frame))
				}
			}
			// One more, that must arrive, comes last: what has not come then, will not.
			const last = 30000
			must(t, l.sendTunnel(c.sender, l.Address(c.receiver), 0,
				innerFrame(t, receiver.vtepMAC(), l.Address(c.senderPod), l.Address(c.pod), 0, last)))
			_, err = inside.Wait(2*time.Second, func(w WirePacket) bool { return w.Outer != nil && w.Outer.SourcePort == last })
			must(t, err)
			packets, err := inside.Stop()
			must(t, err)
			if c.receiver == "node1" {
				waitDrops(t, l, "node1", packet.VXLANECN, 1) // CE over Not-ECT
			}
			for _, port := range sent {
				checkECN(t, packets, port)
			}
		})
	}
}

func checkECN(t *testing.T, packets []WirePacket, port uint16) {
	t.Helper()
	inner, outer := int(port-20000)/4, int(port-20000)%4
	got := dropped
	for _, w := range packets {
		if w.Outer == nil || w.Outer.SourcePort != port || w.Outer.Protocol != unix.IPPROTO_UDP {
			continue
		}
		got = int(w.Outer.TOS & 3)
		if w.Outer.TOS&^3 != dscp {
			t.Errorf("inner %s, outer %s: the TOS is %#x, want the DSCP of %#x", ecnNames[inner], ecnNames[outer], w.Outer.TOS, dscp)
		}
		if sum := internetChecksum(w.Frame[14:34]); sum != 0 {
			t.Errorf("inner %s, outer %s: the header checksum is wrong by %#x", ecnNames[inner], ecnNames[outer], sum)
		}
	}
	if want := decapECN[inner][outer]; got != want {
		t.Errorf("inner %s, outer %s: got %d, want %d", ecnNames[inner], ecnNames[outer], got, want)
	}
}

// innerFrame is a UDP datagram in Ethernet, to the discard port.
func innerFrame(t *testing.T, to net.HardwareAddr, source, destination netip.Addr, tos byte, port uint16) []byte {
	t.Helper()
	ip := &layers.IPv4{
		Version: 4, TTL: 64, TOS: tos, Protocol: layers.IPProtocolUDP,
		SrcIP: source.AsSlice(), DstIP: destination.AsSlice(),
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(port), DstPort: 9}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, DstMAC: to, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload("ecn")))
	return b.Bytes()
}

// sendTunnel sends a frame in VXLAN from a host's own address, with the given
// TOS in the outer header.
func (l *Lab) sendTunnel(from string, to netip.Addr, tos byte, frame []byte) error {
	conn, err := l.DialUDP(from, netip.AddrPortFrom(to, VXLANPort).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, int(tos)) })
	if err != nil || serr != nil {
		return fmt.Errorf("set the TOS: %w %w", err, serr)
	}
	header := binary.BigEndian.AppendUint32(nil, 0x08<<24)
	header = binary.BigEndian.AppendUint32(header, VNI<<8)
	_, err = conn.Write(append(header, frame...))
	return err
}

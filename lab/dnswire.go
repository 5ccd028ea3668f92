package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/miekg/dns"
)

const dnsPort = 53

// WireDNS is a DNS message on a wire.
type WireDNS struct {
	*dns.Msg
	From, To  netip.AddrPort // of the innermost IPv4 header
	Tunnelled bool
	TCP       bool
}

func (d *WireDNS) String() string {
	kind, transport, way := "query", "udp", ""
	if d.Response {
		kind = "answer " + dns.RcodeToString[d.Rcode]
	}
	if d.TCP {
		transport = "tcp"
	}
	if d.Tunnelled {
		way = "VXLAN "
	}
	q := d.Question[0]
	return fmt.Sprintf("%s[%s → %s] %s %s %s %s", way, d.From, d.To, transport, kind, q.Name, dns.TypeToString[q.Qtype])
}

// DNS reads the DNS message of a packet; nil: it has none with a question. Of what
// comes in fragments only the first one can have it, and of TCP only a segment that
// has it whole.
func (w WirePacket) DNS() *WireDNS {
	ip := w.Payload()
	if ip == nil || ip.SourcePort != dnsPort && ip.DestinationPort != dnsPort {
		return nil
	}
	d := &WireDNS{Msg: new(dns.Msg), From: ip.From(), To: ip.To(), Tunnelled: w.Inner != nil}
	var message []byte
	switch transport := w.innermost().TransportLayer().(type) {
	case *layers.UDP:
		message = transport.Payload
	case *layers.TCP:
		d.TCP = true
		if len(transport.Payload) < 2 || int(binary.BigEndian.Uint16(transport.Payload)) > len(transport.Payload)-2 {
			return nil
		}
		message = transport.Payload[2:]
	}
	// Of a fragment the part that is there is read.
	if err := d.Unpack(message); err != nil && len(d.Question) == 0 || len(d.Question) != 1 {
		return nil
	}
	return d
}

// innermost is the packet that a pod sent, without a tunnel around it.
func (w WirePacket) innermost() gopacket.Packet {
	p := gopacket.NewPacket(w.Frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok && w.Inner != nil {
		return gopacket.NewPacket(udp.Payload, layers.LayerTypeVXLAN, gopacket.NoCopy)
	}
	return p
}

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// IPv4 of a packet on a wire, as an independent decoder reads it.
type IPv4 struct {
	Source, Destination netip.Addr
	Protocol            uint8
	TTL                 uint8
	TOS                 uint8
	DF                  bool
	Length              int // bytes, header included
	ICMPType            uint8
	ICMPCode            uint8
	SourcePort          uint16 // of UDP and TCP
	DestinationPort     uint16
}

// From is the source with its port, which is 0 where there is none.
func (p *IPv4) From() netip.AddrPort { return netip.AddrPortFrom(p.Source, p.SourcePort) }

// To is the destination with its port, which is 0 where there is none.
func (p *IPv4) To() netip.AddrPort { return netip.AddrPortFrom(p.Destination, p.DestinationPort) }

// WirePacket is a captured frame. Inner and VNI are of what is in VXLAN.
type WirePacket struct {
	Frame []byte
	Time  time.Time
	Out   bool // the capturing host sent it; else it received it
	Outer *IPv4
	Inner *IPv4
	VNI   uint32
}

// Payload is the innermost IPv4 header: the packet that a pod sent.
func (w WirePacket) Payload() *IPv4 {
	if w.Inner != nil {
		return w.Inner
	}
	return w.Outer
}

// Capture records what passes a device. What AF_XDP sends is not seen on the
// device that sends it: capture at the other end of the cable.
type Capture struct {
	file    *os.File
	done    chan struct{}
	mu      sync.Mutex
	packets []WirePacket
	err     error
}

// Capture starts to record a device of a host. It has begun when Capture
// returns; the caller stops it.
func (l *Lab) Capture(host, device string) (*Capture, error) {
	c := &Capture{done: make(chan struct{})}
	err := l.Do(host, func() error {
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		c.file, err = packetSocket(ifi.Index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture %s on %s: %w", device, host, err)
	}
	go c.run()
	return c, nil
}

func packetSocket(ifindex int) (*os.File, error) {
	const ethAll = 0x0300 // ETH_P_ALL in network byte order
	// Protocol 0 receives nothing before bind: no packet of another device.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Forced: the ordinary limit would lose packets of a fast transfer.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ethAll, Ifindex: ifindex})
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "capture"), nil
}

func (c *Capture) run() {
	defer close(c.done)
	raw, err := c.file.SyscallConn()
	if err != nil {
		c.err = err
		return
	}
	buf := make([]byte, 1<<17)
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err != nil { // closed
			return
		}
		if errors.Is(rerr, unix.EINTR) || errors.Is(rerr, unix.ENETDOWN) {
			continue
		}
		if rerr != nil {
			c.err = rerr
			return
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		c.add(append([]byte(nil), buf[:n]...), ok && ll.Pkttype == unix.PACKET_OUTGOING)
	}
}

func (c *Capture) add(frame []byte, out bool) {
	w := Decode(frame)
	w.Time, w.Out = time.Now(), out
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets = append(c.packets, w)
}

// Packets recorded so far.
func (c *Capture) Packets() []WirePacket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]WirePacket(nil), c.packets...)
}

// Stop ends the capture and returns what it has.
func (c *Capture) Stop() ([]WirePacket, error) {
	if err := c.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return nil, err
	}
	<-c.done
	return c.packets, c.err
}

// Wait waits until a packet was recorded for which match is true.
func (c *Capture) Wait(timeout time.Duration, match func(WirePacket) bool) (WirePacket, error) {
	deadline := time.Now().Add(timeout)
	next := 0
	for {
		all := c.Packets()
		for ; next < len(all); next++ {
			if match(all[next]) {
				return all[next], nil
			}
		}
		if time.Now().After(deadline) {
			return WirePacket{}, fmt.Errorf("no such packet among %d on the wire within %s", len(all), timeout)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Decode reads a frame: its IPv4 header, and what is in VXLAN if it is a
// datagram to VXLANPort.
func Decode(frame []byte) WirePacket {
	w := WirePacket{Frame: frame}
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	w.Outer = ipv4Of(p)
	udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || udp.DstPort != VXLANPort || len(udp.Payload) < 8 {
		return w
	}
	w.VNI = binary.BigEndian.Uint32(udp.Payload[4:]) >> 8
	w.Inner = ipv4Of(gopacket.NewPacket(udp.Payload, layers.LayerTypeVXLAN, gopacket.NoCopy))
	return w
}

// ipv4Of describes the first IPv4 header of a packet; nil: it has none.
func ipv4Of(p gopacket.Packet) *IPv4 {
	ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok {
		return nil
	}
	source, _ := netip.AddrFromSlice(ip.SrcIP.To4())
	destination, _ := netip.AddrFromSlice(ip.DstIP.To4())
	d := &IPv4{
		Source: source, Destination: destination,
		Protocol: uint8(ip.Protocol), TTL: ip.TTL, TOS: ip.TOS, Length: int(ip.Length),
		DF: ip.Flags&layers.IPv4DontFragment != 0,
	}
	switch next := p.TransportLayer().(type) {
	case *layers.UDP:
		d.SourcePort, d.DestinationPort = uint16(next.SrcPort), uint16(next.DstPort)
	case *layers.TCP:
		d.SourcePort, d.DestinationPort = uint16(next.SrcPort), uint16(next.DstPort)
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		d.ICMPType, d.ICMPCode = icmp.TypeCode.Type(), icmp.TypeCode.Code()
	}
	return d
}

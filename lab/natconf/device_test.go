package natconf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"ringway/lab"
	"ringway/packet"
	"ringway/packet/packettest"
)

// device is a NAT under test.
type device interface {
	common() *node
	// forget ends all flows.
	forget() error
	// timeouts are those of a device that nobody has configured.
	timeouts() (timeouts, error)
	// exempt has a destination no longer masqueraded, while traffic flows.
	exempt(netip.Prefix) error
	// takesConflict tells whether an address of the pods' network is taken for the
	// NAT's own address outside.
	takesConflict() (bool, error)
	// refusals counts flows that found no port, as an operator can read it.
	refusals() (uint64, error)
	// written is all that the device has logged.
	written() (string, error)
	// choose puts an option in force, and says how to take it back.
	choose(option) (undo func() error, err error)
}

// timeouts of a device. tcpOpening and tcpClosing are the shortest of all states
// of their kind.
type timeouts struct {
	udp, icmp                                     time.Duration
	tcpEstablished, tcpOpening, tcpClosing, reset time.Duration
	openingAndClosingApart                        bool // they can be set apart
}

// short are those of the devices on which probes wait for timeouts: in the order
// of the real ones.
var short = timeouts{
	udp: 2 * time.Second, icmp: 2 * time.Second,
	tcpEstablished: 9 * time.Second, tcpOpening: 3 * time.Second, tcpClosing: 3 * time.Second, reset: 3 * time.Second,
}

// option is what an operator may choose instead of the default.
type option string

const (
	none       option = ""
	strictEIM  option = "strictEim: true"
	ownAddress option = "an SNAT address of its own"
	random     option = "masquerade fully-random"
)

var errNoOption = errors.New("the device has no such option")

type realmName string

const (
	ordinary realmName = "ordinary" // as it comes
	narrow   realmName = "narrow"   // 4 ports
	hundred  realmName = "hundred"  // 100 ports
	own      realmName = "own"      // an address for SNAT alone, with all ports
	pool     realmName = "pool"     // two addresses that are not neighbours
	shuffled realmName = "shuffled" // random ports, where that is an option
	beside   realmName = "beside"   // 2 ports, of which the node's stack has one
	refused  realmName = "refused"  // what no pod may reach
)

// Of these every realm has two addresses outside.
var outside = map[realmName][2]string{
	ordinary: {"198.51.100.10", "198.51.100.11"},
	narrow:   {"198.51.100.12", "198.51.100.13"},
	hundred:  {"198.51.100.14", "198.51.100.15"},
	own:      {"198.51.100.16", "198.51.100.17"},
	pool:     {"198.51.100.18", "198.51.100.19"},
	shuffled: {"198.51.100.20", "198.51.100.21"},
	beside:   {"198.51.100.22", "198.51.100.23"},
	refused:  {"198.51.100.24", "198.51.100.25"},
}

// addressLater is outside, too: it is exempted while the tests run.
const addressLater = "198.51.100.30"

const (
	narrowPorts  = 4
	hundredPorts = 100
)

// Port ranges of the realms that have one.
var ranges = map[realmName][2]int{
	narrow:  {40000, 40000 + narrowPorts - 1},
	hundred: {40100, 40100 + hundredPorts - 1},
	beside:  {hostPortInRange, hostPortInRange + 1},
}

// UDP ports on which a service of the node's own stack listens.
const (
	hostPort        = 1900
	hostPortInRange = 40300
)

// quota is how many ports or flows a pod may have on the device with limits.
const quota = 32

// node is what all devices have: a node of the lab with two pods, and the outside.
type node struct {
	lab     *lab.Lab
	host    string
	x       uint32 // the node's address
	a, b    *station
	out     *station
	gateway uint32 // of the pods
	realms  map[realmName]realm

	services map[uint16]*net.UDPConn // of the node's own stack, by port
}

// openNode takes a node with two pods. extra are addresses that it gets for SNAT
// alone: one for the realm own, two for pool.
func openNode(l *lab.Lab, out *station, host string, pods [2]string, gateway packet.MAC, extra ...string) (*node, error) {
	n := &node{
		lab: l, host: host, out: out, x: packettest.Addr(l.Address(host).String()),
		realms: map[realmName]realm{}, services: map[uint16]*net.UDPConn{},
	}
	for i, at := range []**station{&n.a, &n.b} {
		var err error
		if *at, err = openStation(l, pods[i], gateway); err != nil {
			return nil, err
		}
	}
	n.gateway = n.a.addr&^0xff | 1
	for name, o := range outside {
		n.realms[name] = realm{o1: packettest.Addr(o[0]), o2: packettest.Addr(o[1]), x: []uint32{n.x}}
	}
	for i, a := range extra {
		if err := addAddress(l, host, a); err != nil {
			return nil, err
		}
		name := []realmName{own, pool, pool}[i]
		r := n.realms[name]
		if r.x[0] == n.x {
			r.x = nil
		}
		r.x = append(r.x, packettest.Addr(a))
		n.realms[name] = r
	}
	return n, errors.Join(n.serve(hostPort), n.serve(hostPortInRange))
}

// serve opens a service of the node's own stack.
func (n *node) serve(port uint16) error {
	return n.lab.Do(n.host, func() error {
		a := netip.AddrPortFrom(address(n.x), port)
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(a))
		n.services[port] = conn
		return err
	})
}

func (n *node) common() *node { return n }

func (n *node) close() error {
	errs := []error{n.a.close(), n.b.close()}
	for _, conn := range n.services {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// addAddress gives a host one more address on eth0.
func addAddress(l *lab.Lab, host, a string) error {
	return onLink(l, host, func(link netlink.Link) error {
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(a), Mask: net.CIDRMask(32, 32)}})
	})
}

func removeAddress(l *lab.Lab, host, a string) error {
	return onLink(l, host, func(link netlink.Link) error {
		return netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(a), Mask: net.CIDRMask(32, 32)}})
	})
}

func onLink(l *lab.Lab, host string, change func(netlink.Link) error) error {
	err := l.Do(host, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return change(link)
	})
	if err != nil {
		return fmt.Errorf("eth0 of %s: %w", host, err)
	}
	return nil
}

// deviceMAC is the address of a host's device.
func deviceMAC(l *lab.Lab, host, device string) (mac packet.MAC, err error) {
	err = l.Do(host, func() error {
		link, err := net.InterfaceByName(device)
		if err == nil {
			copy(mac[:], link.HardwareAddr)
		}
		return err
	})
	return mac, err
}

// warmUp has every neighbour on the way resolved, so that probes meet a path that
// is ready.
func (n *node) warmUp(ctx context.Context, dev device) error {
	for name, r := range n.realms {
		if name == refused {
			continue // a packet that is refused resolves nothing
		}
		for _, o := range []uint32{r.o1, r.o2} {
			if err := n.reach(ctx, newScene(dev, name), o); err != nil {
				return err
			}
		}
	}
	return newScene(dev, ordinary).settle()
}

func (n *node) reach(ctx context.Context, s *scene, o uint32) error {
	f := s.udp(s.a, o)
	tag := newTag()
	for {
		from := s.out.count()
		err := f.pod.send(packettest.IPv4{Src: f.pod.addr, Dst: o, Proto: packet.ProtoUDP}, f.transportOut(tag)...)
		if err != nil {
			return err
		}
		if d := s.out.wait(from, 50*time.Millisecond, func(d *datagram) bool { return d.carries(tag) }); d != nil {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s is not reached from %s: %w", address(o), n.host, err)
		}
	}
}

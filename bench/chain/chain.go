package chain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"

	"ringway/bench/gen"
	"ringway/bench/sink"
)

// Env is what a DUT finds. Uplink A receives from the generator, B sends to the
// sink; both are up, have their addresses, permanent neighbours for the other
// ends, and a kernel route to RoutedCIDR out of B. The kernel does not forward.
type Env struct {
	NS      *Namespace // the DUT's
	A, B    string     // device names
	Traffic Traffic
	Layout  Layout
	Dir     string // of its own, removed at the end
}

// DUT is a device under test. Start returns when it forwards; Stop undoes it and
// may be called after a failed Start. Both run one at a time.
type DUT interface {
	Name() string
	Start(ctx context.Context, env Env) error
	Stop() error
	// Output says what it makes of t.
	Output(t Traffic) Expect
}

// Pauser is a DUT that takes CPU time even without traffic; it is paused while
// others are measured.
type Pauser interface {
	Pause() error
	Resume() error
}

// Chain is a DUT between a generator and a sink.
type Chain struct {
	DUT    DUT
	Layout Layout

	expect   Expect
	mappings mappings
	warm     bool // every flow was seen at the sink
	env      Env
	genNS    *Namespace
	sinkNS   *Namespace
	source   place  // of the generator
	target   place  // of the sink
	receiver string // the DUT's device at the other end of source
	offered  []byte
	sinkIdx  int
	gen      *gen.Generator
	sink     *sink.Sink
	cleanups []func() error
}

// place is a device in a namespace.
type place struct {
	ns     *Namespace
	device string
}

// Row is the kind of work that the chain is loaded with.
func (c *Chain) Row() Row { return c.env.Traffic.Row }

var chains atomic.Uint32

// deviceTag makes device names that no other chain on the machine has, because
// NAPI threads are found by them. A thread's name has room for 9 characters of
// its device's.
func deviceTag() string {
	n := chains.Add(1) % 36
	return "w" + strconv.FormatInt(int64(os.Getpid()), 36) + strconv.FormatInt(int64(n), 36)
}

// New builds a chain and starts its DUT. Its content is not checked yet.
func New(ctx context.Context, dut DUT, t Traffic, l Layout) (*Chain, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	tag := deviceTag()
	c := &Chain{DUT: dut, Layout: l, expect: dut.Output(t), offered: t.Offered(), mappings: newMappings()}
	c.env = Env{A: tag + "a", B: tag + "b", Traffic: t, Layout: l}
	if err := c.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s, %s: %w", t.Row, dut.Name(), err), c.Close())
	}
	return c, nil
}

func (c *Chain) build(ctx context.Context) error {
	start := func() error { return c.start(ctx) }
	steps := []func() error{
		c.makeDir, c.makeNamespaces, c.makeLinks, c.configure, c.makeSink, c.makeGenerator, c.spread, start, c.pin,
	}
	if c.Row().Redirects() { // the ends of the chain are the DUT's pods
		pods := func() error { return c.makePods(ctx) }
		steps = []func() error{
			c.makeDir, c.makeNamespaces, c.makeLinks, c.configure, start, pods, c.learnMACs, c.makeSink, c.makeGenerator, c.spread, c.pin,
		}
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Close stops the DUT and takes everything down. A chain that was not built to
// its end can be closed too.
func (c *Chain) Close() error {
	var errs []error
	for i := len(c.cleanups) - 1; i >= 0; i-- {
		errs = append(errs, c.cleanups[i]())
	}
	c.cleanups = nil
	return errors.Join(errs...)
}

func (c *Chain) cleanup(f func() error) { c.cleanups = append(c.cleanups, f) }

func (c *Chain) makeDir() error {
	dir, err := os.MkdirTemp("", "ringway-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	c.env.Dir = dir
	c.cleanup(func() error { return os.RemoveAll(dir) })
	return nil
}

func (c *Chain) makeNamespaces() error {
	for _, ns := range []**Namespace{&c.genNS, &c.env.NS, &c.sinkNS} {
		n, err := NewNamespace()
		if err != nil {
			return err
		}
		*ns = n
		c.cleanup(n.Close)
	}
	c.source, c.target, c.receiver = place{c.genNS, "gen"}, place{c.sinkNS, "sink"}, c.env.A
	return nil
}

// link is a veth pair from the DUT to one of the outer namespaces.
type link struct {
	device, peer     string
	mac, peerMAC     MAC
	addr, peerAddr   netip.Addr
	outer            *Namespace
	deviceHasOwnNAPI bool
}

func (c *Chain) links() []link {
	return []link{
		{c.env.A, "gen", MACA, MACGenerator, AddrA, AddrGenerator, c.genNS, true},
		{c.env.B, "sink", MACB, MACSink, AddrB, AddrSink, c.sinkNS, false},
	}
}

func (c *Chain) makeLinks() error {
	for _, l := range c.links() {
		if err := c.env.NS.Do(l.make); err != nil {
			return err
		}
		if err := l.outer.Do(func() error { return setUp(l.peer) }); err != nil {
			return err
		}
	}
	return nil
}

func (l link) make() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = l.device, l.mac[:]
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: l.peer, PeerHardwareAddr: l.peerMAC[:],
		PeerNamespace: netlink.NsFd(l.outer.FD()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the veth pair %s: %w", l.device, err)
	}
	if l.deviceHasOwnNAPI {
		if err := ReceiveRedirected(l.device); err != nil {
			return err
		}
	}
	if err := setUp(l.device); err != nil {
		return err
	}
	if err := addAddress(l.device, l.addr); err != nil {
		return err
	}
	return AddNeighbour(l.device, l.peerAddr, l.peerMAC)
}

// ReceiveRedirected turns on GRO of a veth in the namespace of the calling thread.
// Frames redirected into the other end reach it only if it has a NAPI: an XDP program,
// or GRO (veth_xdp_xmit in drivers/net/veth.c).
func ReceiveRedirected(device string) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("open ethtool: %w", err)
	}
	defer e.Close()
	if err := e.Change(device, map[string]bool{"rx-gro": true}); err != nil {
		return fmt.Errorf("turn on GRO of %s: %w", device, err)
	}
	return nil
}

func setUp(device string) error {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		return fmt.Errorf("bring %s up: %w", device, err)
	}
	return nil
}

func addAddress(device string, addr netip.Addr) error {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	a := &netlink.Addr{IPNet: IPNet(netip.PrefixFrom(addr, LinkBits))}
	if err := netlink.AddrAdd(dev, a); err != nil {
		return fmt.Errorf("add %s to %s: %w", addr, device, err)
	}
	return nil
}

// IPNet is p as netlink wants it, host bits kept.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// AddNeighbour adds a permanent neighbour in the namespace of the calling thread.
func AddNeighbour(device string, addr netip.Addr, mac MAC) error {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	n := &netlink.Neigh{LinkIndex: dev.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac[:]}
	if err := netlink.NeighSet(n); err != nil {
		return fmt.Errorf("add neighbour %s on %s: %w", addr, device, err)
	}
	return nil
}

// configure sets what all DUTs start from.
func (c *Chain) configure() error {
	return c.env.NS.Do(func() error {
		for _, s := range []struct{ name, value string }{
			{"ipv4/ip_forward", "0"},
			{"ipv4/conf/all/rp_filter", "0"},
			{"ipv4/conf/default/rp_filter", "0"},
			{"ipv4/conf/" + c.env.A + "/rp_filter", "0"},
			{"ipv4/conf/" + c.env.B + "/rp_filter", "0"},
		} {
			if err := setNetSysctl(s.name, s.value); err != nil {
				return err
			}
		}
		if err := setUp("lo"); err != nil {
			return err
		}
		return AddRoute(c.env.B, RoutedCIDR, AddrSink)
	})
}

// AddRoute adds a route in the namespace of the calling thread.
func AddRoute(device string, to netip.Prefix, via netip.Addr) error {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	r := &netlink.Route{LinkIndex: dev.Attrs().Index, Dst: IPNet(to), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("add a route to %s via %s: %w", to, via, err)
	}
	return nil
}

// AddHostRoute adds a route to a directly connected host in the namespace of the
// calling thread.
func AddHostRoute(device string, to netip.Addr) error {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	r := &netlink.Route{LinkIndex: dev.Attrs().Index, Dst: IPNet(netip.PrefixFrom(to, 32)), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("add a route to %s: %w", to, err)
	}
	return nil
}

// SetForwarding turns the kernel's own forwarding on or off.
func (e Env) SetForwarding(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	return e.SetSysctl("ipv4/ip_forward", value)
}

// SetSysctl writes a file under /proc/sys/net of the DUT. One that the kernel was
// built without is fine.
func (e Env) SetSysctl(name, value string) error {
	return e.NS.Do(func() error { return setNetSysctl(name, value) })
}

func (c *Chain) makeSink() error {
	return c.target.ns.Do(func() error {
		dev, err := netlink.LinkByName(c.target.device)
		if err != nil {
			return fmt.Errorf("find the sink's device: %w", err)
		}
		c.sinkIdx = dev.Attrs().Index
		if c.sink, err = sink.Attach(dev, sink.Options{Frame: c.expect.Frame, Mask: c.expect.Mask, FlowAt: c.expect.flowAt()}); err != nil {
			return err
		}
		c.cleanup(c.sink.Close)
		return nil
	})
}

func (c *Chain) makeGenerator() error {
	return c.source.ns.Do(func() error {
		dev, err := netlink.LinkByName(c.source.device)
		if err != nil {
			return fmt.Errorf("find the generator's device: %w", err)
		}
		t := c.env.Traffic
		c.gen, err = gen.New(gen.Options{
			Frame: c.offered, VXLAN: t.Row.FromTunnel(), Flows: t.numbers(), Destinations: t.Row.destinations(),
			Ifindex: dev.Attrs().Index, DNS: c.dns(),
		})
		if err != nil {
			return err
		}
		c.cleanup(c.gen.Close)
		return nil
	})
}

// spread has the receiving device polled where the layout says.
func (c *Chain) spread() error {
	if c.Layout.NAPI < 0 {
		return nil
	}
	return threadNAPI(c.env.NS, c.receiver)
}

func (c *Chain) start(ctx context.Context) error {
	c.cleanup(c.DUT.Stop)
	if err := c.DUT.Start(ctx, c.env); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// pin has it polled on the CPU that the layout says.
func (c *Chain) pin() error {
	if c.Layout.NAPI < 0 {
		return nil
	}
	return pinNAPI(c.receiver, c.Layout.NAPI)
}

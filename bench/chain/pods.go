package chain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/bench/gen"
	"ringway/bench/responder"
)

// Pod is one to be attached to a DUT.
type Pod struct {
	Name   string
	Addr   netip.Addr
	Labels map[string]string
	NS     *Namespace
}

// Labels of the cache: what a redirect of its namespace selects it by, and the namespace.
var (
	CacheLabel  = map[string]string{"k8s-app": "node-local-dns"}
	cacheLabels = map[string]string{"k8s-app": "node-local-dns", "io.kubernetes.pod.namespace": "kube-system"}
)

// PodDevice is the pods' end of their veth.
const PodDevice = "eth0"

// Redirector is a DUT that pods can be attached to, and so can be measured in
// DNSRedirect. Its methods are called in this order, after Start.
type Redirector interface {
	// AttachPod connects a pod by a veth whose end in there is PodDevice, has a permanent
	// neighbour, the gateway, and takes frames that are redirected into the other
	// end. It returns the name of that end.
	AttachPod(ctx context.Context, p Pod) (device string, err error)
	// RedirectDNS returns when queries for Service go to the pod at AddrCache.
	RedirectDNS(ctx context.Context) error
}

// makePods attaches a client and a cache. Generator and sink are both with the client.
func (c *Chain) makePods(ctx context.Context) error {
	dut, ok := c.DUT.(Redirector)
	if !ok {
		return errors.New("no pods can be attached to it")
	}
	client, err := c.attach(ctx, dut, Pod{Name: "client", Addr: AddrClient})
	if err != nil {
		return err
	}
	cache, err := c.attach(ctx, dut, Pod{Name: "cache", Addr: AddrCache, Labels: cacheLabels})
	if err != nil {
		return err
	}
	c.source, c.target = client.place, client.place
	c.receiver = client.device
	if err := c.respond(cache.place); err != nil {
		return err
	}
	return dut.RedirectDNS(ctx)
}

// attached is a pod that is there.
type attached struct {
	place  place
	device string // the DUT's end
}

func (c *Chain) attach(ctx context.Context, dut Redirector, p Pod) (attached, error) {
	var err error
	if p.NS, err = NewNamespace(); err != nil {
		return attached{}, err
	}
	c.cleanup(p.NS.Close)
	device, err := dut.AttachPod(ctx, p)
	if err != nil {
		return attached{}, fmt.Errorf("attach pod %s: %w", p.Name, err)
	}
	return attached{place{p.NS, PodDevice}, device}, nil
}

// respond has queries answered that come to a place.
func (c *Chain) respond(at place) error {
	return at.ns.Do(func() error {
		dev, err := netlink.LinkByName(at.device)
		if err != nil {
			return fmt.Errorf("find the cache's device: %w", err)
		}
		r, err := responder.Attach(dev, AddrCache)
		if err != nil {
			return err
		}
		c.cleanup(r.Close)
		return nil
	})
}

// learnMACs has queries go from the client's device to its gateway, and answers back:
// a DUT chooses MACs.
func (c *Chain) learnMACs() error {
	return c.source.ns.Do(func() error {
		dev, err := netlink.LinkByName(c.source.device)
		if err != nil {
			return fmt.Errorf("find the client's device: %w", err)
		}
		list, err := netlink.NeighList(dev.Attrs().Index, unix.AF_INET)
		if err != nil {
			return fmt.Errorf("find the client's gateway: %w", err)
		}
		for _, n := range list {
			if n.State == netlink.NUD_PERMANENT && n.IP.Equal(AddrGateway.AsSlice()) {
				own, gateway := MAC(dev.Attrs().HardwareAddr), MAC(n.HardwareAddr)
				setMACs(c.offered, own, gateway)
				setMACs(c.expect.Frame, gateway, own)
				return nil
			}
		}
		return fmt.Errorf("the client has no neighbour %s", AddrGateway)
	})
}

// dns is how queries are asked; nil: there are none.
func (c *Chain) dns() *gen.DNS {
	if !c.Row().Redirects() {
		return nil
	}
	return &gen.DNS{Ports: c.env.Traffic.Flows, Window: queriesInFlight, Answers: c.sink.Totals()}
}

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// The fixed hosts, in the order in which they are made and listed.
var fixedHosts = []string{"lan", "router", "ext", "node1", "node2", "node3", "node4"}

// linuxNode is the node without an agent.
const linuxNode = "node3"

// maxControlHosts is how many hosts there may be for controllers and etcd members.
const maxControlHosts = 3

// controlHost is the host of controller or etcd member i, from 0.
func controlHost(i int) string { return fmt.Sprintf("ctrl%d", i+1) }

// controlAddress is its address, on the shared segment.
func controlAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 0, byte(10 + i)}) }

// controlCable is its cable.
func controlCable(i int) cable {
	host := controlHost(i)
	return cable{end{host, "eth0", controlAddress(i).String() + "/24"}, end{"lan", host, ""}}
}

// node is a member of the cluster.
type node struct {
	name    string
	address string
	cidr    string
	gateway string   // of the node itself, not of its pods
	via     string   // how the router reaches cidr
	uplinks []string // devices, the first holds address
}

var nodes = []node{
	{"node1", "192.168.0.100", "10.200.0.0/24", "192.168.0.1", "192.168.0.100", []string{"eth0", "eth1"}},
	{"node2", "192.168.0.101", "10.200.1.0/24", "192.168.0.1", "192.168.0.101", []string{"eth0"}},
	{"node3", "192.168.0.102", "10.200.2.0/24", "192.168.0.1", "192.168.0.102", []string{"eth0"}},
	{"node4", "192.168.1.103", "10.200.3.0/24", "192.168.1.1", "192.168.1.103", []string{"eth0"}},
}

// cable is a veth pair; an end without an address is a bridge port.
type cable struct{ a, b end }

type end struct{ host, device, address string }

var cables = []cable{
	{end{"router", "eth0", "192.168.0.1/24"}, end{"lan", "router", ""}},
	{end{"node1", "eth0", "192.168.0.100/24"}, end{"lan", "node1", ""}},
	{end{"node2", "eth0", "192.168.0.101/24"}, end{"lan", "node2", ""}},
	{end{"node3", "eth0", "192.168.0.102/24"}, end{"lan", "node3", ""}},
	{end{"node4", "eth0", "192.168.1.103/24"}, end{"router", "eth1", "192.168.1.1/24"}},
	{end{"ext", "eth0", "198.51.100.10/24"}, end{"router", "eth2", "198.51.100.1/24"}},
	{end{"node1", "eth1", "192.168.2.100/24"}, end{"router", "eth3", "192.168.2.1/24"}},
}

// loopbacks are networks that end at a host, as those of the original document's
// router do: destinations beyond the cluster's own.
var loopbacks = []end{
	{"router", "lo", "10.10.1.1/24"},
	{"router", "lo", "10.10.2.1/24"},
}

// Pod is a pod namespace of the lab.
type Pod struct {
	Name    string     `json:"name"`
	Node    string     `json:"node"`
	Address netip.Addr `json:"address"` // inside the node's CIDR; the zero Addr: one that is chosen when the pod is attached

	Namespace string            `json:"namespace,omitempty"` // of the cluster; empty: the default one
	Labels    map[string]string `json:"labels,omitempty"`
	Ports     []string          `json:"ports,omitempty"` // that policies may name, as in "http=80/TCP"
}

// endpoint is what the pod is called by its agent.
func (p Pod) endpoint() string {
	if p.Namespace == "" {
		return p.Name
	}
	return p.Namespace + "/" + p.Name
}

// DefaultPods are the pods of the original scenario, one on each node.
// Each has a label "app" with its name, for policies.
func DefaultPods() []Pod {
	pod := func(name, node, address string) Pod {
		return Pod{Name: name, Node: node, Address: netip.MustParseAddr(address), Labels: map[string]string{"app": name}}
	}
	return []Pod{
		pod("pod1", "node1", "10.200.0.3"),
		pod("pod2", "node2", "10.200.1.4"),
		pod("pod3", "node3", "10.200.2.5"),
		pod("pod4", "node4", "10.200.3.6"),
	}
}

// The tunnel's parameters in the table set that Up writes.
const (
	VNI       = 42
	VXLANPort = 8472
)

// vxlanOverhead is what VXLAN over IPv4 puts around an inner packet: inner
// Ethernet 14, VXLAN 8, UDP 8, IPv4 20.
const vxlanOverhead = 50

func nodeByName(name string) (node, bool) {
	i := slices.IndexFunc(nodes, func(n node) bool { return n.name == name })
	if i < 0 {
		return node{}, false
	}
	return nodes[i], true
}

func (n node) prefix() netip.Prefix { return netip.MustParsePrefix(n.cidr) }

// podGateway is the first address of the node's CIDR.
func (n node) podGateway() netip.Addr { return n.prefix().Addr().Next() }

// onLAN says whether the node is on the shared segment.
func (n node) onLAN() bool { return strings.HasPrefix(n.address, "192.168.0.") }

// vtepMAC is the inner MAC of a node's VTEP: locally administered, then 52,
// then the node's address.
func (n node) vtepMAC() net.HardwareAddr {
	a := netip.MustParseAddr(n.address).As4()
	return net.HardwareAddr{0x02, 0x52, a[0], a[1], a[2], a[3]}
}

// fixedAddresses are the addresses of hosts that are not pods; the first cable
// of a host gives its address.
func fixedAddress(host string) (netip.Addr, bool) {
	for _, c := range cables {
		for _, e := range []end{c.a, c.b} {
			if e.host == host && e.address != "" {
				return netip.MustParsePrefix(e.address).Addr(), true
			}
		}
	}
	for i := range maxControlHosts {
		if host == controlHost(i) {
			return controlAddress(i), true
		}
	}
	return netip.Addr{}, false
}

var (
	prefixPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,30}-$`)
	podPattern    = regexp.MustCompile(`^[a-z0-9]{1,15}$`)
)

// checkPrefix keeps names of labs apart: hosts have no dash, prefixes end in
// one, so no host of one lab has the namespace name of another's.
func checkPrefix(prefix string) error {
	if !prefixPattern.MatchString(prefix) {
		return fmt.Errorf("prefix %q: use lower-case letters, digits, dots and dashes, 2 to 32 characters, the last one a dash", prefix)
	}
	return nil
}

// checkPod checks a pod on one of the nodes that every lab has.
func checkPod(p Pod) error {
	if err := checkName(p.Name); err != nil {
		return fmt.Errorf("pod %w", err)
	}
	n, ok := nodeByName(p.Node)
	if !ok {
		return fmt.Errorf("pod %s: node %q is not one of node1, node2, node3, node4", p.Name, p.Node)
	}
	if !p.Address.IsValid() && p.Node != linuxNode {
		return nil
	}
	if !n.prefix().Contains(p.Address) || p.Address == n.podGateway() || p.Address == n.prefix().Addr() {
		return fmt.Errorf("pod %s: address %s is not a pod address of %s (%s without its first two)", p.Name, p.Address, p.Node, n.cidr)
	}
	return nil
}

// checkName checks the name of a host that is added to the fixed ones.
func checkName(name string) error {
	if !podPattern.MatchString(name) {
		return fmt.Errorf("name %q: use 1 to 15 lower-case letters and digits", name)
	}
	taken := slices.Clone(fixedHosts)
	for i := range maxControlHosts {
		taken = append(taken, controlHost(i))
	}
	if slices.Contains(taken, name) {
		return fmt.Errorf("name %q: a host has that name", name)
	}
	return nil
}

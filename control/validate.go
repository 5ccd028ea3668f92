package control

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

// Bounds and defaults of a table set.
const (
	MaxNodes    = 16384   // of one set
	MaxPrefixes = 1 << 20 // node CIDRs of all nodes of one set together

	DefaultVNI  = 1    // where vxlan.vni is left out
	DefaultPort = 8472 // where vxlan.port is left out: Linux's own default, older than IANA's 4789

	maxVNI        = 1<<24 - 1
	minPrefixBits = 8  // a shorter one is a typing error
	maxPrefixBits = 30 // a longer one has no room for a gateway and a pod
	maxNameLen    = 253
)

var tableSetSchema = messageSchema((&pb.TableSet{}).ProtoReflect().Descriptor())

// ParseTables reads a table set as people write it, YAML or JSON. It checks the
// shape only; Validate does the rest.
func ParseTables(doc []byte) (*pb.TableSet, error) {
	out, err := decodeStrict(doc, tableSetSchema)
	if err != nil {
		return nil, err
	}
	set := &pb.TableSet{}
	if err := protojson.Unmarshal(out, set); err != nil {
		return nil, Problems{{"document", err.Error(), "write it as the JSON form of ringway.v1.TableSet"}}
	}
	return set, nil
}

// Validate turns a table set into the dataplane's tables, or returns Problems.
// It is the one validation that every set passes, from wherever it comes. self
// is the name of the node that is to use it.
func Validate(set *pb.TableSet, self string) (dataplane.Tables, error) {
	v := newValidator(self)
	t := dataplane.Tables{
		Version:  set.GetVersion(),
		Routing:  v.routing(set.GetRouting()),
		VXLAN:    v.vxlan(set.GetVxlan()),
		MSSClamp: set.GetMssClamp(),
	}
	if v.sizes(set.GetNodes()) {
		t.Nodes = v.nodes(set.GetNodes())
		v.overlaps()
	}
	t.Masquerade = v.masquerade(set.GetMasquerade())
	t.Services = v.services(set.GetServices())
	t.Redirects = v.redirects(set.GetRedirects())
	t.Policy = v.policy(set.GetPolicy())
	if err := v.problems.err(); err != nil {
		return dataplane.Tables{}, err
	}
	return t, nil
}

// validator collects what is wrong with one set, in the order of its fields.
type validator struct {
	self      string
	problems  Problems
	names     map[string]int
	addresses map[netip.Addr]int
	macs      map[[6]byte]int
	nodeNames []string
	hosts     []host
	cidrs     []cidr
	outer     []cidr // those that are inside no other, sorted
}

// host is a valid node address and where it was given.
type host struct {
	addr netip.Addr
	node int
}

// cidr is a valid node CIDR and where it was given.
type cidr struct {
	prefix      netip.Prefix
	node, index int
}

func newValidator(self string) *validator {
	return &validator{
		self:      self,
		names:     map[string]int{},
		addresses: map[netip.Addr]int{},
		macs:      map[[6]byte]int{},
	}
}

func (c cidr) field() string { return fmt.Sprintf("nodes[%d].nodeCidrs[%d]", c.node, c.index) }

func (v *validator) routing(s string) dataplane.Routing {
	r := dataplane.Routing(s)
	switch r {
	case dataplane.RoutingOverlay, dataplane.RoutingDirect, dataplane.RoutingHybrid:
	case "":
		v.problems.add("routing", "missing", "write overlay, direct or hybrid")
	default:
		v.problems.add("routing", fmt.Sprintf("%q is not known", clip(s)), "write overlay, direct or hybrid")
	}
	return r
}

func (v *validator) vxlan(x *pb.Vxlan) dataplane.VXLAN {
	out := dataplane.VXLAN{
		VNI:         DefaultVNI,
		Port:        DefaultPort,
		InheritDSCP: x.GetInheritDscp(),
		UDPChecksum: x.GetUdpChecksum(),
		StrictFlags: x.GetStrictFlags(),
	}
	if x != nil && x.Vni != nil {
		out.VNI = x.GetVni()
	}
	if out.VNI < 1 || out.VNI > maxVNI {
		v.problems.add("vxlan.vni", fmt.Sprintf("%d is out of range", out.VNI), fmt.Sprintf("choose 1 to %d", maxVNI))
	}
	if x == nil || x.Port == nil {
		return out
	}
	if p := x.GetPort(); p < 1 || p > 65535 {
		v.problems.add("vxlan.port", fmt.Sprintf("%d is out of range", p), fmt.Sprintf("choose 1 to 65535, or leave it out for %d", DefaultPort))
	}
	out.Port = uint16(x.GetPort())
	return out
}

// sizes is false where looking at the nodes would be a waste.
func (v *validator) sizes(nodes []*pb.Node) bool {
	prefixes := 0
	for _, n := range nodes {
		prefixes += len(n.GetNodeCidrs())
	}
	switch {
	case len(nodes) == 0:
		v.problems.add("nodes", "the set is empty", fmt.Sprintf("list the cluster's nodes, %q among them", v.self))
	case len(nodes) > MaxNodes:
		v.problems.add("nodes", fmt.Sprintf("%d nodes are too many", len(nodes)), fmt.Sprintf("keep to %d", MaxNodes))
	case prefixes > MaxPrefixes:
		v.problems.add("nodes", fmt.Sprintf("%d node CIDRs are too many", prefixes), fmt.Sprintf("keep to %d, by aggregating them", MaxPrefixes))
	default:
		return true
	}
	return false
}

func (v *validator) nodes(nodes []*pb.Node) []dataplane.Node {
	out := make([]dataplane.Node, 0, len(nodes))
	for i, n := range nodes {
		if v.problems.full() {
			return nil
		}
		out = append(out, v.node(i, n))
	}
	if _, ok := v.names[v.self]; !ok {
		v.problems.add("nodes", fmt.Sprintf("this node, %q, is missing", v.self), "add it, or correct the key node of agent.yaml")
	}
	return out
}

func (v *validator) node(i int, n *pb.Node) dataplane.Node {
	field := fmt.Sprintf("nodes[%d]", i)
	v.nodeNames = append(v.nodeNames, n.GetName())
	out := dataplane.Node{
		Name:    v.name(i, field+".name", n.GetName()),
		Address: v.address(i, field+".address", n.GetAddress()),
	}
	for j, s := range n.GetNodeCidrs() {
		c := cidr{node: i, index: j}
		p, problem := parseNodeCIDR(s)
		if problem != nil {
			v.problems.add(c.field(), problem.Reason, problem.Remedy)
			continue
		}
		c.prefix = p
		v.cidrs = append(v.cidrs, c)
		out.NodeCIDRs = append(out.NodeCIDRs, p)
	}
	if len(n.GetNodeCidrs()) == 0 && n.GetName() == v.self {
		v.problems.add(field+".nodeCidrs", "this node has none", "give it one: its first address becomes the gateway of the pods")
	}
	out.VTEPMAC = v.mac(i, field+".vtepMac", n.GetVtepMac(), out.Address)
	return out
}

func (v *validator) name(i int, field, s string) string {
	if reason, remedy := nameProblem(s); reason != "" {
		v.problems.add(field, reason, remedy)
		return s
	}
	if first, ok := v.names[s]; ok {
		v.problems.add(field, fmt.Sprintf("%q is also the name of nodes[%d]", s, first), "give each node a name of its own")
		return s
	}
	v.names[s] = i
	return s
}

func (v *validator) address(i int, field, s string) netip.Addr {
	a, problem := parseNodeAddress(s)
	if problem != nil {
		v.problems.add(field, problem.Reason, problem.Remedy)
		return netip.Addr{}
	}
	if first, ok := v.addresses[a]; ok {
		v.problems.add(field, fmt.Sprintf("%s is also the address of node %q", a, v.nodeNames[first]), "give each node an address of its own")
		return a
	}
	v.addresses[a] = i
	v.hosts = append(v.hosts, host{a, i})
	return a
}

// mac compares the MACs that will be used, derived ones included, but returns
// zero for a derived one: deriving is the dataplane's.
func (v *validator) mac(i int, field, s string, addr netip.Addr) [6]byte {
	var given, used [6]byte
	switch {
	case s != "":
		m, problem := parseVTEPMAC(s)
		if problem != nil {
			v.problems.add(field, problem.Reason, problem.Remedy)
			return given
		}
		given, used = m, m
	case addr.Is4():
		b := addr.As4()
		used = [6]byte{0x02, 0x52, b[0], b[1], b[2], b[3]}
	default:
		return given // the address is wrong and was reported
	}
	if first, ok := v.macs[used]; ok {
		// Two equal addresses derive equal MACs: that was reported already.
		if s != "" || v.addresses[addr] == i {
			v.problems.add(field, fmt.Sprintf("%s is also the VTEP MAC of node %q", net.HardwareAddr(used[:]), v.nodeNames[first]), "give each node a MAC of its own")
		}
		return given
	}
	v.macs[used] = i
	return given
}

// overlaps reports node CIDRs that share addresses, and node addresses inside a
// node CIDR. Prefixes nest or are disjoint, so that after sorting each one needs
// to be compared only with the last one that was not inside another.
func (v *validator) overlaps() {
	slices.SortFunc(v.cidrs, func(a, b cidr) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()),
			cmp.Compare(a.node, b.node), cmp.Compare(a.index, b.index))
	})
	type clash struct{ later, earlier cidr }
	var clashes []clash
	outer := v.cidrs[:0:0]
	for _, c := range v.cidrs {
		if n := len(outer); n > 0 && outer[n-1].prefix.Overlaps(c.prefix) {
			k := clash{c, outer[n-1]}
			if before(k.later, k.earlier) {
				k.later, k.earlier = k.earlier, k.later
			}
			clashes = append(clashes, k)
			continue
		}
		outer = append(outer, c)
	}
	slices.SortFunc(clashes, func(a, b clash) int {
		return cmp.Or(cmp.Compare(a.later.node, b.later.node), cmp.Compare(a.later.index, b.later.index))
	})
	for _, k := range clashes {
		if v.problems.full() {
			return
		}
		v.problems.add(k.later.field(), fmt.Sprintf("%s overlaps %s of node %q", k.later.prefix, k.earlier.prefix, v.nodeNames[k.earlier.node]),
			"give each node addresses of its own")
	}
	v.outer = outer
	v.hostsInside()
}

func before(a, b cidr) bool {
	return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.index, b.index)) < 0
}

func (v *validator) hostsInside() {
	for _, h := range v.hosts {
		if v.problems.full() {
			return
		}
		if c, ok := v.around(h.addr); ok {
			v.problems.add(fmt.Sprintf("nodes[%d].address", h.node), fmt.Sprintf("%s is inside %s, a node CIDR of node %q", h.addr, c.prefix, v.nodeNames[c.node]),
				"keep node addresses out of the pods' ranges")
		}
	}
}

// around is the node CIDR that a is in.
func (v *validator) around(a netip.Addr) (cidr, bool) {
	i, found := slices.BinarySearchFunc(v.outer, a, func(c cidr, a netip.Addr) int { return c.prefix.Addr().Compare(a) })
	if !found {
		i--
	}
	if i < 0 || !v.outer[i].prefix.Contains(a) {
		return cidr{}, false
	}
	return v.outer[i], true
}

var labelSyntax = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// nameProblem checks a name by RFC 1123 section 2.1, in lower case.
func nameProblem(s string) (reason, remedy string) {
	const syntax = "use a-z, 0-9, - and ., with a letter or digit at both ends of each part"
	switch {
	case s == "":
		return "missing", syntax
	case len(s) > maxNameLen:
		return fmt.Sprintf("%q has %d characters", clip(s), len(s)), fmt.Sprintf("keep to %d", maxNameLen)
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) > 63 {
			return fmt.Sprintf("%q has a part of %d characters", clip(s), len(label)), "keep to 63 between dots"
		}
		if !labelSyntax.MatchString(label) {
			return fmt.Sprintf("%q is not an RFC 1123 name", clip(s)), syntax
		}
	}
	return "", ""
}

// special names the IPv4 ranges in which neither a node nor a pod can live
// (RFC 6890), most telling first.
var special = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("0.0.0.0/8"), "\"this network\""},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
}

func parseNodeAddress(s string) (netip.Addr, *Problem) {
	return parseUnicast(s, "give the node's IPv4 address", "give the unicast address by which other nodes reach it")
}

// parseUnicast has two remedies: what to give, and what to give instead of an
// address that is no host's.
func parseUnicast(s, give, instead string) (netip.Addr, *Problem) {
	if s == "" {
		return netip.Addr{}, &Problem{Reason: "missing", Remedy: give}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, &Problem{Reason: fmt.Sprintf("%q is not an IP address", clip(s)), Remedy: "write it as in 192.0.2.1"}
	}
	if !a.Is4() {
		return netip.Addr{}, &Problem{Reason: fmt.Sprintf("%s is IPv6", a), Remedy: give}
	}
	for _, r := range special {
		if r.prefix.Contains(a) {
			return netip.Addr{}, &Problem{Reason: fmt.Sprintf("%s is a %s address", a, r.name), Remedy: instead}
		}
	}
	return a, nil
}

// parseCIDR reads a canonical IPv4 prefix. bits is the length that it suggests
// where there is none.
func parseCIDR(s string, bits int) (netip.Prefix, *Problem) {
	refuse := func(reason, remedy string) (netip.Prefix, *Problem) {
		return netip.Prefix{}, &Problem{Reason: reason, Remedy: remedy}
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return refuse(fmt.Sprintf("%s has no prefix length", s), fmt.Sprintf("write it as in %s", netip.PrefixFrom(a, bits).Masked()))
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return refuse(fmt.Sprintf("%q is not a CIDR", clip(s)), "write it as in 10.200.1.0/24")
	case !p.Addr().Is4():
		return refuse(fmt.Sprintf("%s is IPv6", p), "give an IPv4 prefix")
	case p != p.Masked():
		return refuse(fmt.Sprintf("%s has host bits set", p), fmt.Sprintf("write %s", p.Masked()))
	}
	return p, nil
}

func parseNodeCIDR(s string) (netip.Prefix, *Problem) {
	p, problem := parseCIDR(s, 24)
	if problem != nil {
		return p, problem
	}
	refuse := func(reason, remedy string) (netip.Prefix, *Problem) {
		return netip.Prefix{}, &Problem{Reason: reason, Remedy: remedy}
	}
	switch {
	case p.Bits() > maxPrefixBits:
		return refuse(fmt.Sprintf("%s is too long", p), fmt.Sprintf("give at least a /%d: a gateway and a pod must fit", maxPrefixBits))
	case p.Bits() < minPrefixBits:
		return refuse(fmt.Sprintf("%s is too short", p), fmt.Sprintf("give at most a /%d", minPrefixBits))
	}
	for _, r := range special {
		if r.prefix.Overlaps(p) {
			return refuse(fmt.Sprintf("%s is in the %s range", p, r.name), "give a unicast range, as in 10.200.1.0/24")
		}
	}
	return p, nil
}

func parseVTEPMAC(s string) (mac [6]byte, problem *Problem) {
	const form = "write it as in 02:52:c0:a8:00:64, or leave it out"
	m, err := net.ParseMAC(s)
	switch {
	case err != nil || len(m) != 6:
		return mac, &Problem{Reason: fmt.Sprintf("%q is not an Ethernet MAC address", clip(s)), Remedy: form}
	case m[0]&1 != 0:
		return mac, &Problem{Reason: fmt.Sprintf("%s is a group address", m), Remedy: "clear the lowest bit of the first byte"}
	case [6]byte(m) == mac:
		return mac, &Problem{Reason: fmt.Sprintf("%s is no address", m), Remedy: form}
	}
	return [6]byte(m), nil
}

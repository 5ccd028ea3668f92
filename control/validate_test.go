package control

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

const goodYAML = `
version: 3
routing: hybrid
vxlan: {vni: 42, port: 4789, inheritDscp: true, udpChecksum: true, strictFlags: true}
mssClamp: true
nodes:
  - name: node1
    address: 192.168.0.100
    nodeCidrs: [10.200.0.0/24]
  - name: node2.rack-7
    address: 192.168.0.101
    nodeCidrs: [10.200.1.0/24, 10.201.0.0/16]
    vtepMac: 02:01:02:03:04:05
`

func TestValidTables(t *testing.T) {
	set, err := ParseTables([]byte(goodYAML))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Validate(set, "node1")
	if err != nil {
		t.Fatal(err)
	}
	want := dataplane.Tables{
		Version:  3,
		Routing:  dataplane.RoutingHybrid,
		VXLAN:    dataplane.VXLAN{VNI: 42, Port: 4789, InheritDSCP: true, UDPChecksum: true, StrictFlags: true},
		MSSClamp: true,
		Nodes: []dataplane.Node{
			{Name: "node1", Address: netip.MustParseAddr("192.168.0.100"), NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.200.0.0/24")}},
			{
				Name: "node2.rack-7", Address: netip.MustParseAddr("192.168.0.101"), VTEPMAC: [6]byte{2, 1, 2, 3, 4, 5},
				NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.200.1.0/24"), netip.MustParsePrefix("10.201.0.0/16")},
			},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if again, err := Validate(TableSet(got), "node1"); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("there and back: %v\ngot  %+v\nwant %+v", err, again, want)
	}
}

func TestTablesDefaults(t *testing.T) {
	set, err := ParseTables([]byte("routing: direct\nnodes: [{name: node1, address: 192.0.2.1, nodeCidrs: [10.0.0.0/24]}, {name: gateway, address: 192.0.2.2}]"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Validate(set, "node1")
	if err != nil {
		t.Fatal(err)
	}
	if want := (dataplane.VXLAN{VNI: DefaultVNI, Port: DefaultPort}); got.VXLAN != want {
		t.Errorf("VXLAN is %+v, want %+v", got.VXLAN, want)
	}
	if got.Version != 0 || len(got.Nodes) != 2 {
		t.Errorf("got %+v", got)
	}
}

// TestBadTables holds one case for each kind of fault, and the words in which it
// is reported: they name the field, the reason and the remedy.
func TestBadTables(t *testing.T) {
	// set is a valid set with node2's line replaced.
	set := func(node2 string) string {
		return "routing: overlay\nnodes:\n- {name: node1, address: 192.168.0.100, nodeCidrs: [10.200.0.0/24]}\n- " + node2 + "\n"
	}
	cidr := func(s string) string { return set("{name: node2, address: 192.168.0.101, nodeCidrs: [" + s + "]}") }
	address := func(s string) string { return set("{name: node2, address: '" + s + "', nodeCidrs: [10.200.1.0/24]}") }
	name := func(s string) string { return set("{name: '" + s + "', address: 192.168.0.101}") }
	mac := func(s string) string { return set("{name: node2, address: 192.168.0.101, vtepMac: '" + s + "'}") }
	head := func(s string) string {
		return s + "\nnodes: [{name: node1, address: 192.168.0.100, nodeCidrs: [10.200.0.0/24]}]\n"
	}
	const rfc1123 = "use a-z, 0-9, - and ., with a letter or digit at both ends of each part"
	const unicast = "give the unicast address by which other nodes reach it"
	const macForm = "write it as in 02:52:c0:a8:00:64, or leave it out"

	cases := []struct{ name, doc, want string }{
		// the document
		{"not YAML", "routing: [", "line 1: did not find expected node content: correct the YAML there"},
		{"a tab", "nodes:\n\t- name: x\n", "line 2: found character that cannot start any token: correct the YAML there"},
		{"a key twice", "routing: overlay\nrouting: direct\n", `line 2: key "routing" already set in map: write the key once`},
		{"two documents", head("routing: overlay") + "---\nrouting: direct\n", "line 3: a second YAML document starts: keep one document in the file"},
		{"not a mapping", "[1]", "document: a list is not a mapping: write key: value lines; known here: version, routing, vxlan, mssClamp, nodes, masquerade, services, redirects, policy"},
		{"unknown field", head("routing: overlay\nrotuing: x"), "rotuing: unknown field: known here: version, routing, vxlan, mssClamp, nodes, masquerade, services, redirects, policy"},
		{"unknown field inside", set("{name: node2, address: 192.168.0.101, podCIDR: x}"), "nodes[1].podCIDR: unknown field: known here: name, address, nodeCidrs, vtepMac"},
		{"misspelt field", set("{name: node2, address: 192.168.0.101, node_cidrs: []}"), "nodes[1].node_cidrs: unknown field: write nodeCidrs"},
		{"a number for a string", set("{name: 7, address: 192.168.0.101}"), `nodes[1].name: 7 is not a string: write "7", in quotes`},
		{"a string for a boolean", head("routing: overlay\nmssClamp: maybe"), "mssClamp: maybe is not a boolean: write true or false"},
		{"a string for a list", set("{name: node2, address: 192.168.0.101, nodeCidrs: 10.200.1.0/24}"), `nodes[1].nodeCidrs: 10.200.1.0/24 is not a list: write a list, [a, b] or one "- a" line each`},
		{"a word for a number", head("routing: overlay\nvxlan: {vni: one}"), "vxlan.vni: one is not a whole number from 0 to 2^32-1: write digits, without quotes"},
		{"a negative number", head("version: -1"), "version: -1 is not a whole number from 0 to 2^64-1: write digits, without quotes"},
		{"a broken number", head("routing: overlay\nvxlan: {port: 84.72}"), "vxlan.port: 84.72 is not a whole number from 0 to 2^32-1: write digits, without quotes"},
		{"an empty entry", set(""), "nodes[1]: the entry is empty: fill it in or take it out"},

		// the head
		{"routing missing", head("version: 1"), "routing: missing: write overlay, direct or hybrid"},
		{"routing unknown", head("routing: Overlay"), `routing: "Overlay" is not known: write overlay, direct or hybrid`},
		{"VNI zero", head("routing: overlay\nvxlan: {vni: 0}"), "vxlan.vni: 0 is out of range: choose 1 to 16777215"},
		{"VNI too big", head("routing: overlay\nvxlan: {vni: 16777216}"), "vxlan.vni: 16777216 is out of range: choose 1 to 16777215"},
		{"port zero", head("routing: overlay\nvxlan: {port: 0}"), "vxlan.port: 0 is out of range: choose 1 to 65535, or leave it out for 8472"},
		{"port too big", head("routing: overlay\nvxlan: {port: 65536}"), "vxlan.port: 65536 is out of range: choose 1 to 65535, or leave it out for 8472"},
		{"empty", "routing: overlay", `nodes: the set is empty: list the cluster's nodes, "node1" among them`},
		{"own node missing", "routing: overlay\nnodes: [{name: node2, address: 192.168.0.101, nodeCidrs: [10.200.1.0/24]}]", `nodes: this node, "node1", is missing: add it, or correct the key node of agent.yaml`},
		{"own node without CIDR", "routing: overlay\nnodes: [{name: node1, address: 192.168.0.100}]", "nodes[0].nodeCidrs: this node has none: give it one: its first address becomes the gateway of the pods"},

		// names
		{"name missing", name(""), "nodes[1].name: missing: " + rfc1123},
		{"name in capitals", name("Node2"), `nodes[1].name: "Node2" is not an RFC 1123 name: ` + rfc1123},
		{"name with an empty part", name("a..b"), `nodes[1].name: "a..b" is not an RFC 1123 name: ` + rfc1123},
		{"name that ends in a dash", name("a-"), `nodes[1].name: "a-" is not an RFC 1123 name: ` + rfc1123},
		{"part too long", name(strings.Repeat("a", 64)), `nodes[1].name: "` + strings.Repeat("a", 64) + `" has a part of 64 characters: keep to 63 between dots`},
		{"name too long", name(strings.Repeat("a.", 127)), `nodes[1].name: "` + strings.Repeat("a.", 40) + `…" has 254 characters: keep to 253`},
		{"name twice", set("{name: node1, address: 192.168.0.101, nodeCidrs: [10.200.1.0/24]}"), `nodes[1].name: "node1" is also the name of nodes[0]: give each node a name of its own`},

		// addresses
		{"address missing", address(""), "nodes[1].address: missing: give the node's IPv4 address"},
		{"no address", address("192.168.0.256"), `nodes[1].address: "192.168.0.256" is not an IP address: write it as in 192.0.2.1`},
		{"address with a length", address("192.168.0.1/24"), `nodes[1].address: "192.168.0.1/24" is not an IP address: write it as in 192.0.2.1`},
		{"IPv6 address", address("2001:db8::1"), "nodes[1].address: 2001:db8::1 is IPv6: give the node's IPv4 address"},
		{"mapped address", address("::ffff:192.0.2.1"), "nodes[1].address: ::ffff:192.0.2.1 is IPv6: give the node's IPv4 address"},
		{"loopback", address("127.0.0.1"), "nodes[1].address: 127.0.0.1 is a loopback address: " + unicast},
		{"link-local", address("169.254.1.1"), "nodes[1].address: 169.254.1.1 is a link-local address: " + unicast},
		{"multicast", address("224.0.0.9"), "nodes[1].address: 224.0.0.9 is a multicast address: " + unicast},
		{"unspecified", address("0.0.0.0"), `nodes[1].address: 0.0.0.0 is a "this network" address: ` + unicast},
		{"broadcast", address("255.255.255.255"), "nodes[1].address: 255.255.255.255 is a reserved address: " + unicast},
		{"address twice", address("192.168.0.100"), `nodes[1].address: 192.168.0.100 is also the address of node "node1": give each node an address of its own`},
		{"address inside own CIDR", address("10.200.1.9"), `nodes[1].address: 10.200.1.9 is inside 10.200.1.0/24, a node CIDR of node "node2": keep node addresses out of the pods' ranges`},
		{"address inside another's CIDR", address("10.200.0.0"), `nodes[1].address: 10.200.0.0 is inside 10.200.0.0/24, a node CIDR of node "node1": keep node addresses out of the pods' ranges`},

		// node CIDRs
		{"no CIDR", cidr("10.200.1/24"), `nodes[1].nodeCidrs[0]: "10.200.1/24" is not a CIDR: write it as in 10.200.1.0/24`},
		{"length missing", cidr("10.200.1.7"), "nodes[1].nodeCidrs[0]: 10.200.1.7 has no prefix length: write it as in 10.200.1.0/24"},
		{"IPv6 CIDR", cidr("'fd00::/64'"), "nodes[1].nodeCidrs[0]: fd00::/64 is IPv6: give an IPv4 prefix"},
		{"host bits", cidr("10.200.1.5/24"), "nodes[1].nodeCidrs[0]: 10.200.1.5/24 has host bits set: write 10.200.1.0/24"},
		{"too long", cidr("10.200.1.0/31"), "nodes[1].nodeCidrs[0]: 10.200.1.0/31 is too long: give at least a /30: a gateway and a pod must fit"},
		{"too short", cidr("10.0.0.0/7"), "nodes[1].nodeCidrs[0]: 10.0.0.0/7 is too short: give at most a /8"},
		{"loopback CIDR", cidr("127.1.0.0/16"), "nodes[1].nodeCidrs[0]: 127.1.0.0/16 is in the loopback range: give a unicast range, as in 10.200.1.0/24"},
		{"CIDR twice in a node", cidr("10.200.1.0/24, 10.200.1.0/24"), `nodes[1].nodeCidrs[1]: 10.200.1.0/24 overlaps 10.200.1.0/24 of node "node2": give each node addresses of its own`},
		{"CIDR of another node", cidr("10.200.0.0/24"), `nodes[1].nodeCidrs[0]: 10.200.0.0/24 overlaps 10.200.0.0/24 of node "node1": give each node addresses of its own`},
		{"CIDR inside another", cidr("10.200.0.128/25"), `nodes[1].nodeCidrs[0]: 10.200.0.128/25 overlaps 10.200.0.0/24 of node "node1": give each node addresses of its own`},
		{"CIDR around another", cidr("10.200.0.0/16"), `nodes[1].nodeCidrs[0]: 10.200.0.0/16 overlaps 10.200.0.0/24 of node "node1": give each node addresses of its own`},

		// VTEP MACs
		{"no MAC", mac("02:52:c0"), `nodes[1].vtepMac: "02:52:c0" is not an Ethernet MAC address: ` + macForm},
		{"EUI-64", mac("02:52:c0:a8:00:64:00:01"), `nodes[1].vtepMac: "02:52:c0:a8:00:64:00:01" is not an Ethernet MAC address: ` + macForm},
		{"group MAC", mac("01:00:5e:00:00:01"), "nodes[1].vtepMac: 01:00:5e:00:00:01 is a group address: clear the lowest bit of the first byte"},
		{"zero MAC", mac("00:00:00:00:00:00"), "nodes[1].vtepMac: 00:00:00:00:00:00 is no address: " + macForm},
		{"MAC that another node derives", mac("02:52:c0:a8:00:64"), `nodes[1].vtepMac: 02:52:c0:a8:00:64 is also the VTEP MAC of node "node1": give each node a MAC of its own`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			set, err := ParseTables([]byte(c.doc))
			if err == nil {
				_, err = Validate(set, "node1")
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			var ps Problems
			if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Field == "" || ps[0].Reason == "" || ps[0].Remedy == "" {
				t.Errorf("%#v is not one whole problem", err)
			}
		})
	}
}

// bigSet has nodes of one CIDR each, and the first of them has more.
func bigSet(nodes, prefixes int) *pb.TableSet {
	set := &pb.TableSet{Routing: "overlay"}
	for i := range nodes {
		set.Nodes = append(set.Nodes, &pb.Node{Name: fmt.Sprintf("node%d", i), Address: host32(192<<24 + uint32(i))})
	}
	for i := range prefixes {
		set.Nodes[0].NodeCidrs = append(set.Nodes[0].NodeCidrs, host32(16<<24+uint32(i)*4)+"/30")
	}
	return set
}

func host32(a uint32) string {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}).String()
}

func TestSizes(t *testing.T) {
	if _, err := Validate(bigSet(MaxNodes, MaxPrefixes), "node0"); err != nil {
		t.Errorf("the biggest set is refused: %v", err)
	}
	_, err := Validate(bigSet(MaxNodes+1, 1), "node0")
	if want := "nodes: 16385 nodes are too many: keep to 16384"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = Validate(bigSet(1, MaxPrefixes+1), "node0")
	if want := "nodes: 1048577 node CIDRs are too many: keep to 1048576, by aggregating them"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestBiggestSetFitsAMessage(t *testing.T) {
	set := bigSet(MaxNodes, MaxPrefixes)
	for _, n := range set.Nodes {
		n.Name = strings.Repeat("n", maxNameLen)
		n.Address = "192.168.100.100"
		n.VtepMac = "02:52:c0:a8:00:64"
	}
	for i := range set.Nodes[0].NodeCidrs {
		set.Nodes[0].NodeCidrs[i] = "100.100.100.100/30"
	}
	set.Masquerade = bigMasquerade(MaxMasqueradeCIDRs)
	set.Services, set.Redirects, set.Policy = bigServices(), bigRedirects(), bigPolicy(set)
	if size := proto.Size(set); size > maxMessage {
		t.Errorf("the biggest set has %d bytes, a message at most %d", size, maxMessage)
	}
}

// TestProblemsAreOrderedAndBounded runs often because map iteration would show
// only now and then.
func TestProblemsAreOrderedAndBounded(t *testing.T) {
	doc := "routing: x\nvxlan: {vni: 0, port: 0}\nnodes:\n"
	for i := range 20 {
		doc += fmt.Sprintf("- {name: N%d, address: 127.0.0.1, nodeCidrs: [10.0.0.1/8]}\n", i)
	}
	set, err := ParseTables([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"routing", "vxlan.vni", "vxlan.port",
		"nodes[0].name", "nodes[0].address", "nodes[0].nodeCidrs[0]",
		"nodes[1].name", "nodes[1].address", "nodes[1].nodeCidrs[0]", "nodes[2].name",
	}
	for range 50 {
		_, err := Validate(set, "node1")
		var ps Problems
		if !errors.As(err, &ps) {
			t.Fatalf("got %v", err)
		}
		var got []string
		for _, p := range ps {
			got = append(got, p.Field)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	}
	if lines := strings.Split(Problems{{"a", "b", "c"}, {"d", "e", "f"}}.Error(), "\n"); len(lines) != 2 || lines[0] != "a: b: c" {
		t.Errorf("got %q", lines)
	}
}

// TestOverlapsAgainstPairs compares the sorted search with the obvious one.
func TestOverlapsAgainstPairs(t *testing.T) {
	seed := uint32(1)
	next := func(n uint32) uint32 { seed = seed*1664525 + 1013904223; return (seed >> 8) % n }
	for range 300 {
		set := &pb.TableSet{Routing: "overlay"}
		var all []netip.Prefix
		clash := false
		for i := range 6 {
			p := netip.PrefixFrom(netip.MustParseAddr(host32(10<<24+next(64)<<8)), 18+int(next(8))).Masked()
			for _, q := range all {
				clash = clash || p.Overlaps(q)
			}
			all = append(all, p)
			set.Nodes = append(set.Nodes, &pb.Node{Name: fmt.Sprintf("node%d", i), Address: host32(192<<24 + uint32(i)), NodeCidrs: []string{p.String()}})
		}
		if _, err := Validate(set, "node0"); (err != nil) != clash {
			t.Fatalf("%v overlap: %v, but Validate says %v", all, clash, err)
		}
	}
}

// FuzzTables: no document brings the parser down, and what is accepted survives
// the way through the message.
func FuzzTables(f *testing.F) {
	f.Add([]byte(goodYAML))
	f.Add([]byte("nodes: [{name: node1, address: 1.2.3.4, nodeCidrs: [10.0.0.0/8]}]\nrouting: direct"))
	f.Add([]byte(goodMasquerade))
	f.Add([]byte(goodServices))
	f.Add([]byte(goodRedirects))
	f.Add([]byte(goodPolicy))
	f.Add([]byte("version: '3'\nnodes: [null, 1, {}]"))
	f.Add([]byte("---\n# c\nvxlan: {vni: 1e3}\n...\n---"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		set, err := ParseTables(doc)
		if err != nil {
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("%v names no field", err)
			}
			return
		}
		tables, err := Validate(set, "node1")
		if err != nil {
			return
		}
		again, err := Validate(TableSet(tables), "node1")
		if err != nil || !reflect.DeepEqual(again, tables) {
			t.Fatalf("%+v became %+v: %v", tables, again, err)
		}
	})
}

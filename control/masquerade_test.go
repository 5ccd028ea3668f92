package control

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
	"ringway/nat"
)

const twoNodes = `
routing: overlay
nodes:
- {name: node1, address: 192.168.0.100, nodeCidrs: [10.200.0.0/24]}
- {name: node2, address: 192.168.0.101, nodeCidrs: [10.200.1.0/24]}
`

const goodMasquerade = twoNodes + `
masquerade:
  nativeRoutingCIDRs: [10.0.0.0/16]
  nonMasqueradeCIDRs: [10.10.0.0/16, 198.51.100.0/24, 0.0.0.0/0]
  rules:
  - {name: no-mail, destinations: [0.0.0.0/0], action: drop}
  - name: pool
    sources: [10.9.0.0/16, 10.200.1.7/32]
    destinations: [203.0.113.0/24]
    uplink: eth1
    action: snat
    addresses: [192.0.2.1, 192.168.0.101]
    ports: 1024-65535
  - {name: as-it-is, action: none}
  strictEim: true
  masqLinkLocal: true
`

// validated is what becomes of a document in the hands of node1.
func validated(doc string) (dataplane.Tables, error) {
	set, err := ParseTables([]byte(doc))
	if err != nil {
		return dataplane.Tables{}, err
	}
	return Validate(set, "node1")
}

func TestValidMasquerade(t *testing.T) {
	got, err := validated(goodMasquerade)
	if err != nil {
		t.Fatal(err)
	}
	p := netip.MustParsePrefix
	want := dataplane.Masquerade{
		Enabled:            true,
		NativeRoutingCIDRs: []netip.Prefix{p("10.0.0.0/16")},
		NonMasqueradeCIDRs: []netip.Prefix{p("10.10.0.0/16"), p("198.51.100.0/24"), p("0.0.0.0/0")},
		Rules: []nat.RuleSpec{
			{Name: "no-mail", Destinations: []netip.Prefix{p("0.0.0.0/0")}, Action: nat.ActionDrop, From: "tables: masquerade.rules[0]"},
			{
				Name: "pool", Sources: []netip.Prefix{p("10.9.0.0/16"), p("10.200.1.7/32")}, Destinations: []netip.Prefix{p("203.0.113.0/24")},
				Uplink: "eth1", Action: nat.ActionSNAT, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.168.0.101")},
				Ports: nat.PortRange{Low: 1024, High: 65535}, From: "tables: masquerade.rules[1]",
			},
			{Name: "as-it-is", Action: nat.ActionNone, From: "tables: masquerade.rules[2]"},
		},
		StrictEIM:     true,
		MasqLinkLocal: true,
	}
	if !reflect.DeepEqual(got.Masquerade, want) {
		t.Errorf("got  %+v\nwant %+v", got.Masquerade, want)
	}
	if again, err := Validate(TableSet(got), "node1"); err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("there and back: %v\ngot  %+v\nwant %+v", err, again, got)
	}
	if _, err := nat.Compile(nat.Defaults(nat.Inputs{Rules: got.Masquerade.Rules}), []string{"eth0", "eth1"}); err != nil {
		t.Errorf("what is valid does not compile: %v", err)
	}
}

// TestMasqueradeEnabled: a set from before there was masquerade keeps its meaning.
func TestMasqueradeEnabled(t *testing.T) {
	for section, want := range map[string]bool{
		"":                             false,
		"masquerade:":                  false,
		"masquerade: {}":               true,
		"masquerade: {enabled: true}":  true,
		"masquerade: {enabled: false}": false,
		"masquerade: {enabled: false, nonMasqueradeCIDRs: [10.0.0.0/8]}": false,
		"masquerade: {nonMasqueradeCIDRs: []}":                           true,
	} {
		got, err := validated(twoNodes + section)
		if err != nil || got.Masquerade.Enabled != want {
			t.Errorf("%q: enabled is %v, %v", section, got.Masquerade.Enabled, err)
		}
		if again, err := Validate(TableSet(got), "node1"); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%q: there and back: %v\ngot  %+v\nwant %+v", section, err, again, got)
		}
	}
}

func TestBadMasquerade(t *testing.T) {
	rule := func(s string) string { return "rules: [{name: a, action: snat}, {" + s + "}]" }
	const rfc1123 = "use a-z, 0-9, - and ., with a letter or digit at both ends of each part"
	const unicast = "give a unicast address that leads to the node"
	cases := []struct{ section, want string }{
		{"active: true", "masquerade.active: unknown field: known here: enabled, nativeRoutingCIDRs, nonMasqueradeCIDRs, rules, strictEim, masqLinkLocal"},
		{"nonMasqueradeCidrs: []", "masquerade.nonMasqueradeCidrs: unknown field: write nonMasqueradeCIDRs"},
		{"enabled: maybe", "masquerade.enabled: maybe is not a boolean: write true or false"},
		{"nativeRoutingCIDRs: 10.0.0.0/8", `masquerade.nativeRoutingCIDRs: 10.0.0.0/8 is not a list: write a list, [a, b] or one "- a" line each`},
		{"nativeRoutingCIDRs: [10.0.0.0/8, 10.1.0.0]", "masquerade.nativeRoutingCIDRs[1]: 10.1.0.0 has no prefix length: write it as in 10.1.0.0/32"},
		{"nonMasqueradeCIDRs: [10.1.2.3/8]", "masquerade.nonMasqueradeCIDRs[0]: 10.1.2.3/8 has host bits set: write 10.0.0.0/8"},
		{"nonMasqueradeCIDRs: ['fd00::/8']", "masquerade.nonMasqueradeCIDRs[0]: fd00::/8 is IPv6: give an IPv4 prefix"},
		{"nonMasqueradeCIDRs: [ten]", `masquerade.nonMasqueradeCIDRs[0]: "ten" is not a CIDR: write it as in 10.200.1.0/24`},
		{rule("action: snat"), "masquerade.rules[1].name: missing: " + rfc1123},
		{rule("name: A, action: snat"), `masquerade.rules[1].name: "A" is not an RFC 1123 name: ` + rfc1123},
		{rule("name: a, action: none"), `masquerade.rules[1].name: "a" is also the name of masquerade.rules[0]: give each rule a name of its own`},
		{rule("name: b"), "masquerade.rules[1].action: missing: write snat, none or drop"},
		{rule("name: b, action: SNAT"), `masquerade.rules[1].action: "SNAT" is not known: write snat, none or drop`},
		{rule("name: b, action: masquerade"), `masquerade.rules[1].action: "masquerade" is not known: write snat, none or drop`},
		{rule("name: b, action: none, sources: [10.0.0.1/8]"), "masquerade.rules[1].sources[0]: 10.0.0.1/8 has host bits set: write 10.0.0.0/8"},
		{rule("name: b, action: none, destinations: [1.0.0.0/8, 10.0.0.0/33]"), `masquerade.rules[1].destinations[1]: "10.0.0.0/33" is not a CIDR: write it as in 10.200.1.0/24`},
		{rule("name: b, action: none, uplink: eth0/1"), `masquerade.rules[1].uplink: "eth0/1" is no interface name: use a name from ip link`},
		{rule("name: b, action: none, uplink: a-name-far-too-long"), `masquerade.rules[1].uplink: "a-name-far-too-long" is no interface name: use a name from ip link`},
		{rule("name: b, action: none, addresses: [192.0.2.1]"), "masquerade.rules[1].addresses: action none uses none: take them out, or write snat"},
		{rule("name: b, action: drop, ports: 1-2"), "masquerade.rules[1].ports: action drop uses none: take them out, or write snat"},
		{rule("name: b, action: snat, addresses: ['']"), "masquerade.rules[1].addresses[0]: missing: give an IPv4 address"},
		{rule("name: b, action: snat, addresses: [192.0.2.0/24]"), `masquerade.rules[1].addresses[0]: "192.0.2.0/24" is not an IP address: write it as in 192.0.2.1`},
		{rule("name: b, action: snat, addresses: ['2001:db8::1']"), "masquerade.rules[1].addresses[0]: 2001:db8::1 is IPv6: give an IPv4 address"},
		{rule("name: b, action: snat, addresses: [127.0.0.1]"), "masquerade.rules[1].addresses[0]: 127.0.0.1 is a loopback address: " + unicast},
		{rule("name: b, action: snat, addresses: [224.0.0.1]"), "masquerade.rules[1].addresses[0]: 224.0.0.1 is a multicast address: " + unicast},
		{rule("name: b, action: snat, addresses: [10.200.1.9]"), `masquerade.rules[1].addresses[0]: 10.200.1.9 is inside 10.200.1.0/24, a node CIDR of node "node2": choose an address outside of the pods' ranges`},
		{rule("name: b, action: snat, addresses: [192.0.2.1, 192.0.2.1]"), "masquerade.rules[1].addresses[1]: 192.0.2.1 is entry 0, too: name each address once"},
		{rule("name: b, action: snat, ports: 5000"), `masquerade.rules[1].ports: 5000 is not a string: write "5000", in quotes`},
		{rule("name: b, action: snat, ports: '5000'"), `masquerade.rules[1].ports: "5000" is not two ports, low-high: write them as in 1024-65535`},
		{rule("name: b, action: snat, ports: 0-5"), `masquerade.rules[1].ports: "0-5" begins with port 0: write them as in 1024-65535`},
		{rule("name: b, action: snat, ports: 1-65536"), `masquerade.rules[1].ports: "1-65536" is not two ports, low-high: write them as in 1024-65535`},
		{rule("name: b, action: snat, ports: 9-9"), `masquerade.rules[1].ports: "9-9" does not go upwards: write them as in 1024-65535`},
		{rule("name: b, action: snat, port: 1-9"), "masquerade.rules[1].port: unknown field: known here: name, sources, destinations, uplink, action, addresses, ports"},
	}
	for _, c := range cases {
		t.Run(c.section, func(t *testing.T) {
			_, err := validated(twoNodes + "masquerade: {" + c.section + "}")
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			var ps Problems
			if !errors.As(err, &ps) || len(ps) != 1 {
				t.Errorf("%#v is not one problem", err)
			}
		})
	}
}

// bigMasquerade has cidrs in rules of 64.
func bigMasquerade(cidrs int) *pb.Masquerade {
	m := &pb.Masquerade{}
	for i := range cidrs {
		if i%64 == 0 {
			m.Rules = append(m.Rules, &pb.MasqueradeRuleSpec{
				Name: fmt.Sprintf("rule-%d", i), Action: "snat", Uplink: "eth0", Ports: "10000-20000",
				Addresses: []string{host32(192<<24 + uint32(i/64%MaxSNATAddresses))},
			})
		}
		r := m.Rules[len(m.Rules)-1]
		r.Destinations = append(r.Destinations, host32(100<<24+uint32(i))+"/32")
	}
	return m
}

func TestMasqueradeSizes(t *testing.T) {
	validate := func(m *pb.Masquerade) error {
		set := bigSet(1, 1)
		set.Masquerade = m
		_, err := Validate(set, "node0")
		return err
	}
	if err := validate(bigMasquerade(MaxMasqueradeCIDRs)); err != nil {
		t.Errorf("the biggest section is refused: %v", err)
	}
	tooMany := bigMasquerade(1)
	tooMany.NonMasqueradeCidrs = make([]string, MaxMasqueradeCIDRs)
	addresses := bigMasquerade(1)
	for i := range MaxSNATAddresses {
		addresses.Rules[0].Addresses = append(addresses.Rules[0].Addresses, host32(193<<24+uint32(i)))
	}
	for want, m := range map[string]*pb.Masquerade{
		"masquerade.rules: 1025 rules are too many: keep to 1024: a rule takes many CIDRs": {Rules: make([]*pb.MasqueradeRuleSpec, 1025)},
		"masquerade: 65537 CIDRs are too many: keep to 65536, by aggregating them":         tooMany,
		"masquerade.rules: 257 different addresses are too many: keep to 256":              addresses,
	} {
		if err := validate(m); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	wrong := bigMasquerade(MaxMasqueradeCIDRs)
	for _, r := range wrong.Rules {
		r.Destinations[0] = "x"
	}
	if err := validate(wrong); err == nil || strings.Count(err.Error(), "\n")+1 != maxProblems {
		t.Errorf("a section that is wrong everywhere is refused with %v", err)
	}
}

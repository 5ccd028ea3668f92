package control

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
	"ringway/packet"
	"ringway/policy"
)

const goodPolicy = twoNodes + `
policy:
  mode: audit
  policeHost: true
  identities:
  - {id: 300, namespace: default, labels: {app: web, tier: ""}}
  - {id: 256, namespace: kube-system}
  - {id: 4294967295, namespace: default}
  endpoints:
  - node: node2
    endpoints: [{address: 10.200.1.9, identity: 300}, {address: 10.200.1.2, identity: 256}]
  - node: node1
    endpoints: [{address: 10.200.0.7, identity: 300}]
  policies:
  - identity: 300
    ingress:
      defaultDeny: true
      rules:
      - {name: "default/web ingress[0]", action: allow, identities: [256, 300], ports: [{protocol: TCP, port: 80}, {protocol: UDP, port: 8000, endPort: 8999}]}
      - {name: "default/no ping ingress[0]", action: deny, blocks: [{cidr: 0.0.0.0/0, except: [10.0.0.0/8, 192.0.2.1/32]}], ports: [{protocol: ICMP, port: 8}]}
      - {name: nobody, action: allow, noPeer: true, ports: [{protocol: SCTP}, {protocol: ICMP}, {protocol: ICMP, port: 0, endPort: 18}]}
    egress: {}
  - {identity: 256}
`

func TestValidPolicy(t *testing.T) {
	got, err := validated(goodPolicy)
	if err != nil {
		t.Fatal(err)
	}
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	want := &dataplane.Policy{
		Mode: dataplane.PolicyAudit, PoliceHost: true,
		Identities: []dataplane.Identity{
			{ID: 300, Namespace: "default", Labels: map[string]string{"app": "web", "tier": ""}},
			{ID: 256, Namespace: "kube-system"}, {ID: 4294967295, Namespace: "default"},
		},
		Endpoints: []dataplane.EndpointIdentity{{Address: a("10.200.0.7"), Identity: 300}, {Address: a("10.200.1.2"), Identity: 256}, {Address: a("10.200.1.9"), Identity: 300}},
		Policies: []policy.Policy{
			{
				Identity: 300,
				Ingress: &policy.Direction{DefaultDeny: true, Rules: []policy.Rule{
					{
						Name: "default/web ingress[0]", Action: policy.Allow, Identities: []uint32{256, 300},
						Ports: []policy.Port{{Proto: packet.ProtoTCP, Low: 80, High: 80}, {Proto: packet.ProtoUDP, Low: 8000, High: 8999}},
					},
					{
						Name: "default/no ping ingress[0]", Action: policy.Deny,
						Blocks: []policy.Block{{CIDR: p("0.0.0.0/0"), Except: []netip.Prefix{p("10.0.0.0/8"), p("192.0.2.1/32")}}},
						Ports:  []policy.Port{{Proto: packet.ProtoICMP, Low: 8, High: 8}},
					},
					{
						Name: "nobody", Action: policy.Allow, NoPeer: true,
						Ports: []policy.Port{{Proto: packet.ProtoSCTP, Low: 0, High: 65535}, {Proto: packet.ProtoICMP, Low: 0, High: 255}, {Proto: packet.ProtoICMP, Low: 0, High: 18}},
					},
				}},
				Egress: &policy.Direction{},
			},
			{Identity: 256},
		},
	}
	if !reflect.DeepEqual(got.Policy, want) {
		t.Errorf("got  %+v\nwant %+v", got.Policy, want)
	}
	if again, err := Validate(TableSet(got), "node1"); err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("there and back: %v\ngot  %+v\nwant %+v", err, again.Policy, got.Policy)
	}
}

func TestPolicyDefaults(t *testing.T) {
	if got, err := validated(twoNodes); err != nil || got.Policy != nil {
		t.Errorf("no section became %+v, %v", got.Policy, err)
	}
	got, err := validated(twoNodes + "policy: {}")
	if err != nil || got.Policy == nil || got.Policy.Mode != dataplane.PolicyEnforce || got.Policy.PoliceHost {
		t.Errorf("an empty section became %+v, %v", got.Policy, err)
	}
}

func TestBadPolicy(t *testing.T) {
	identities := func(s string) string { return "policy:\n  identities: [" + s + "]" }
	const two = "policy:\n  identities: [{id: 256, namespace: default}, {id: 300, namespace: default}]\n"
	endpoints := func(s string) string { return two + "  endpoints: [" + s + "]" }
	onNode1 := func(s string) string { return endpoints("{node: node1, endpoints: [" + s + "]}") }
	policies := func(s string) string { return two + "  policies: [" + s + "]" }
	rule := func(s string) string {
		return policies("{identity: 300, egress: {rules: [{name: a, action: allow}, {" + s + "}]}}")
	}
	block := func(s string) string { return rule("name: b, action: deny, blocks: [" + s + "]") }
	port := func(s string) string { return rule("name: b, action: deny, ports: [{" + s + "}]") }
	const at = "policy.policies[0].egress.rules[1]"
	const ruleName = `write where the rule comes from, as in "default/web ingress[0]"`
	const label = "use a-z, 0-9, - and ., with a letter or digit at both ends of each part"
	for _, c := range []struct{ section, want string }{
		{"policy: on", "policy: true is not a mapping: write key: value lines; known here: mode, policeHost, identities, endpoints, policies"},
		{"policy: {mode: off}", `policy.mode: false is not a string: write "false", in quotes`},
		{"policy: {mode: permissive}", `policy.mode: "permissive" is not known: write enforce or audit`},
		{"policy: {policeHost: maybe}", "policy.policeHost: maybe is not a boolean: write true or false"},
		{"policy: {police_host: true}", "policy.police_host: unknown field: write policeHost"},

		{identities("{namespace: default}"), "policy.identities[0].id: 0 is reserved: choose 256 to 4294967295"},
		{identities("{id: 255, namespace: default}"), "policy.identities[0].id: 255 is reserved: choose 256 to 4294967295"},
		{identities("{id: 256}"), "policy.identities[0].namespace: missing: " + label},
		{identities("{id: 256, namespace: a.b}"), `policy.identities[0].namespace: "a.b" is not an RFC 1123 label: write it without dots`},
		{identities("{id: 256, namespace: a, labels: {'': x}}"), "policy.identities[0].labels: a key is empty, or a key or value too long: keep keys to 317 characters and values to 253"},
		{identities("{id: 300, namespace: a}, {id: 256, namespace: a}, {id: 300, namespace: b}"), "policy.identities[2].id: 300 is also the id of policy.identities[0]: give each identity an id of its own"},

		{endpoints("{node: node3}"), `policy.endpoints[0].node: "node3" is the name of no node: write the name of one of nodes`},
		{endpoints("{node: node1}, {node: node1}"), `policy.endpoints[1].node: "node1" is also the node of policy.endpoints[0]: list all endpoints of a node in one entry`},
		{onNode1("{identity: 300}"), "policy.endpoints[0].endpoints[0].address: missing: give the endpoint's IPv4 address"},
		{onNode1("{address: 10.200.0.07, identity: 300}"), `policy.endpoints[0].endpoints[0].address: "10.200.0.07" is not an IP address: write it as in 192.0.2.1`},
		{onNode1("{address: '::ffff:10.200.0.7', identity: 300}"), "policy.endpoints[0].endpoints[0].address: ::ffff:10.200.0.7 is IPv6: give the endpoint's IPv4 address"},
		{onNode1("{address: 10.200.1.7, identity: 300}"), `policy.endpoints[0].endpoints[0].address: 10.200.1.7 is in no node CIDR of node "node1": correct it, or list it with its own node`},
		{onNode1("{address: 10.200.0.7}"), "policy.endpoints[0].endpoints[0].identity: identity 0 is none of policy.identities: add it there, or correct the number"},
		{onNode1("{address: 10.200.0.7, identity: 301}"), "policy.endpoints[0].endpoints[0].identity: identity 301 is none of policy.identities: add it there, or correct the number"},
		{onNode1("{address: 10.200.0.7, identity: 300}, {address: 10.200.0.6, identity: 300}, {address: 10.200.0.7, identity: 256}"), "policy.endpoints[0].endpoints[2].address: 10.200.0.7 is also the address of policy.endpoints[0].endpoints[0]: an address has one endpoint"},

		{policies("{identity: 301}"), "policy.policies[0].identity: identity 301 is none of policy.identities: add it there, or correct the number"},
		{policies("{identity: 300}, {identity: 300}"), "policy.policies[1].identity: 300 is also the identity of policy.policies[0]: keep one of them"},
		{rule("action: allow"), at + ".name: missing: " + ruleName},
		{rule("name: " + strings.Repeat("n", 513) + ", action: allow"), at + ".name: \"" + strings.Repeat("n", 80) + "…\" has 513 characters: keep to 512"},
		{rule(`name: "a\nb", action: allow`), at + `.name: "a\nb" has a character that cannot be shown: ` + ruleName},
		{rule("name: b"), at + `.action: "" is not known: write allow or deny`},
		{rule("name: b, action: Allow"), at + `.action: "Allow" is not known: write allow or deny`},
		{rule("name: b, action: deny, noPeer: true, identities: [300]"), at + ".noPeer: the rule has peers: take it out, or the identities and blocks"},
		{rule("name: b, action: deny, identities: [300, 256]"), at + ".identities[1]: 256 comes after 300: list identities in ascending order, each once"},
		{rule("name: b, action: deny, identities: [256, 256]"), at + ".identities[1]: 256 comes after 256: list identities in ascending order, each once"},
		{rule("name: b, action: deny, identities: [256, 299]"), at + ".identities[1]: identity 299 is none of policy.identities: add it there, or correct the number"},
		{block("{}"), at + `.blocks[0].cidr: "" is not a CIDR: write it as in 10.200.1.0/24`},
		{block("{cidr: 10.0.0.1/8}"), at + ".blocks[0].cidr: 10.0.0.1/8 has host bits set: write 10.0.0.0/8"},
		{block("{cidr: 'fd00::/8'}"), at + ".blocks[0].cidr: fd00::/8 is IPv6: give an IPv4 prefix"},
		{block("{cidr: 10.0.0.1}"), at + ".blocks[0].cidr: 10.0.0.1 has no prefix length: write it as in 10.0.0.1/32"},
		{block("{cidr: 10.0.0.0/8, except: [10.1.0.1/16]}"), at + ".blocks[0].except[0]: 10.1.0.1/16 has host bits set: write 10.1.0.0/16"},
		{block("{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}"), at + ".blocks[0].except[0]: 11.0.0.0/16 is not inside 10.0.0.0/8: give a part of the block, or take it out"},
		{block("{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}"), at + ".blocks[0].except[0]: 0.0.0.0/0 is not inside 10.0.0.0/8: give a part of the block, or take it out"},
		{port("port: 80"), at + `.ports[0].protocol: "" is not known: write TCP, UDP, SCTP or ICMP`},
		{port("protocol: tcp"), at + `.ports[0].protocol: "tcp" is not known: write TCP, UDP, SCTP or ICMP`},
		{port("protocol: TCP, port: 0"), at + ".ports[0].port: 0 is out of range: choose 1 to 65535"},
		{port("protocol: UDP, port: 65536"), at + ".ports[0].port: 65536 is out of range: choose 1 to 65535"},
		{port("protocol: SCTP, port: 80, endPort: 79"), at + ".ports[0].endPort: 79 is out of range: choose 80 to 65535"},
		{port("protocol: TCP, endPort: 79"), at + ".ports[0].endPort: there is no port that it is the end of: give port, too"},
		{port("protocol: ICMP, port: 256"), at + ".ports[0].port: 256 is out of range: choose 0 to 255"},
		{port("protocol: TCP, port: http"), at + ".ports[0].port: http is not a whole number from 0 to 2^32-1: write digits, without quotes"},
	} {
		t.Run(c.section, func(t *testing.T) { refusedWith(t, twoNodes+c.section, c.want) })
	}
}

// bigPolicy is a section for a set that is nearly as long as one may be.
func bigPolicy(set *pb.TableSet) *pb.Policy {
	p := &pb.Policy{Endpoints: []*pb.NodeEndpoints{{Node: set.Nodes[0].Name}}}
	const size = MaxPolicyBytes/MaxIdentities - 50
	for i := range uint32(MaxIdentities) {
		p.Identities = append(p.Identities, &pb.Identity{Id: MinIdentity + i, Namespace: "default", Labels: map[string]string{
			"a": strings.Repeat("x", maxLabelLen), "b": strings.Repeat("x", maxLabelLen), "c": strings.Repeat("x", size-2*maxLabelLen),
		}})
	}
	return p
}

func TestPolicySizes(t *testing.T) {
	validate := func(p *pb.Policy) error {
		set := bigSet(1, 1)
		set.Policy = p
		_, err := Validate(set, "node0")
		return err
	}
	big := bigPolicy(bigSet(1, 1))
	if err := validate(big); err != nil || proto.Size(big) < MaxPolicyBytes*9/10 {
		t.Errorf("a section of %d bytes: %v", proto.Size(big), err)
	}
	ids := []*pb.Identity{{Id: 300, Namespace: "default"}}
	rules := &pb.DirectionPolicy{Rules: make([]*pb.PolicyRule, MaxDirectionRules+1)}
	blocks := []*pb.PolicyBlock{{Cidr: "10.0.0.0/8", Except: make([]string, MaxPolicyBlocks)}}
	for want, p := range map[string]*pb.Policy{
		"policy.identities: 65537 identities are too many: keep to 65536":                         {Identities: make([]*pb.Identity, MaxIdentities+1)},
		"policy.endpoints: 262145 endpoints are too many: keep to 262144":                         {Endpoints: []*pb.NodeEndpoints{{Endpoints: make([]*pb.EndpointIdentity, MaxPolicyEndpoints+1)}}},
		"policy.policies[0].ingress.rules: 4097 rules are too many: keep to 4096":                 {Identities: ids, Policies: []*pb.IdentityPolicy{{Identity: 300, Ingress: rules}}},
		"policy.policies: 131073 blocks and exceptions of all rules are too many: keep to 131072": {Policies: []*pb.IdentityPolicy{{Egress: &pb.DirectionPolicy{Rules: []*pb.PolicyRule{{Blocks: blocks}}}}}},
		fmt.Sprintf("policy: %d bytes are too many: keep to 50331648", MaxPolicyBytes+10):         {Identities: []*pb.Identity{{Namespace: strings.Repeat("x", MaxPolicyBytes)}}},
	} {
		if err := validate(p); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

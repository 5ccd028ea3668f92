package object

import (
	"fmt"
	"strings"
	"testing"

	"ringway/control/store"
)

// cluster is what the objects of the tests have beside them.
const cluster = `
{apiVersion: ringway.io/v1, kind: RoutingConfig, metadata: {name: cluster}, spec: {routing: overlay}}
---
{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: main}, spec: {cidrs: [10.200.0.0/16, 10.201.0.0/16], maskSize: 24}}
---
{apiVersion: ringway.io/v1, kind: Node, metadata: {name: node1}, spec: {address: 192.0.2.1, nodeCIDRs: [10.200.0.0/24, 10.210.0.0/24], pool: main}}
---
{apiVersion: ringway.io/v1, kind: Node, metadata: {name: node2}, spec: {address: 192.0.2.2, nodeCIDRs: [10.200.1.0/24]}}
---
{apiVersion: ringway.io/v1, kind: Masquerade, metadata: {name: cluster}, spec: {rules: [{name: mail, action: snat, addresses: [192.0.2.77]}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: empty}}
---
{apiVersion: ringway.io/v1, kind: Endpoint, metadata: {name: cart-0, namespace: shop}, spec: {node: node1, address: 10.210.0.7, labels: {app: cart}}}
---
{apiVersion: ringway.io/v1, kind: Endpoint, metadata: {name: cart-1, namespace: shop}, spec: {node: node1, address: 10.200.0.8, labels: {app: cart}}}
---
{apiVersion: ringway.io/v1, kind: Service, metadata: {name: dns, namespace: kube-system}, spec: {address: 10.96.0.10, ports: [{port: 53, protocol: UDP}], backends: [198.51.100.53]}}
---
{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: dns, namespace: kube-system}, spec: {redirectFrontend: {serviceMatcher: {serviceName: dns, namespace: kube-system}}, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "53", protocol: UDP}]}}}
---
{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: metadata, namespace: kube-system}, spec: {redirectFrontend: {addressMatcher: {ip: 169.254.169.254, toPorts: [{port: "80", protocol: TCP}]}}, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "80", protocol: TCP}]}}}
---
{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: odd, namespace: kube-system}, spec: {redirectFrontend: {addressMatcher: {ip: 10.220.5.1, toPorts: [{port: "80", protocol: TCP}]}}, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "80", protocol: TCP}]}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web, namespace: shop}, spec: {podSelector: {}}}
`

func named(kind, name, spec string) string {
	return fmt.Sprintf(`{apiVersion: ringway.io/v1, kind: %s, metadata: {name: %s}, spec: %s}`, kind, name, spec)
}

func inShop(kind, name, spec string) string {
	return fmt.Sprintf(`{apiVersion: ringway.io/v1, kind: %s, metadata: {name: %s, namespace: shop}, spec: %s}`, kind, name, spec)
}

func redirectOf(name, frontend string) string {
	return fmt.Sprintf(`{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: %s, namespace: kube-system}, spec: {redirectFrontend: %s, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "80", protocol: TCP}]}}}`, name, frontend)
}

func TestAdmitRefuses(t *testing.T) {
	const podRanges = ": keep node addresses out of the pods' ranges"
	for _, c := range []struct{ name, doc, want string }{
		{"node without CIDRs", named("Node", "node3", `{address: 192.0.2.3}`), "Node node3: spec.nodeCIDRs: there is none: write one, or make a Pool that has one to give"},
		{"node of a pool that is not there", named("Node", "node3", `{address: 192.0.2.3, nodeCIDRs: [10.230.0.0/24], pool: other}`), `Node node3: spec.pool: there is no pool "other": make it first, or leave it out for any`},
		{"address of another node", named("Node", "node3", `{address: 192.0.2.2, nodeCIDRs: [10.230.0.0/24]}`), `Node node3: spec.address: 192.0.2.2 is also the address of node "node2": give each node an address of its own`},
		{"MAC that another node derives", named("Node", "node3", `{address: 192.0.2.3, vtepMAC: "02:52:c0:00:02:01", nodeCIDRs: [10.230.0.0/24]}`), `Node node3: spec.vtepMAC: 02:52:c0:00:02:01 is also the VTEP MAC of node "node1": give each node a MAC of its own`},
		{"CIDR of another node", named("Node", "node3", `{address: 192.0.2.3, nodeCIDRs: [10.230.0.0/24, 10.210.0.128/25]}`), `Node node3: spec.nodeCIDRs[1]: 10.210.0.128/25 overlaps 10.210.0.0/24 of node "node1": give each node addresses of its own`},
		{"CIDR around another's", named("Node", "node3", `{address: 192.0.2.3, nodeCIDRs: [10.210.0.0/16]}`), `Node node3: spec.nodeCIDRs[0]: 10.210.0.0/16 overlaps 10.210.0.0/24 of node "node1": give each node addresses of its own`},
		{"address among pods", named("Node", "node3", `{address: 10.210.0.9, nodeCIDRs: [10.230.0.0/24]}`), `Node node3: spec.address: 10.210.0.9 is inside 10.210.0.0/24, a node CIDR of node "node1"` + podRanges},
		{"address in a pool", named("Node", "node3", `{address: 10.201.77.1, nodeCIDRs: [10.230.0.0/24]}`), `Node node3: spec.address: 10.201.77.1 is inside 10.201.0.0/16, a CIDR of pool "main"` + podRanges},
		{"CIDR around a node", named("Node", "node3", `{address: 203.0.113.3, nodeCIDRs: [192.0.2.0/26]}`), `Node node3: spec.nodeCIDRs[0]: 192.0.2.1, the address of node "node1", is inside 192.0.2.0/26` + podRanges + "\n" +
			`Node node3: spec.nodeCIDRs[0]: 192.0.2.2, the address of node "node2", is inside 192.0.2.0/26` + podRanges},
		{"address of a service", named("Node", "node3", `{address: 10.96.0.10, nodeCIDRs: [10.230.0.0/24]}`), "Node node3: spec.address: 10.96.0.10 is also the address of service kube-system/dns: choose another, or move the service"},
		{"CIDR around a service", named("Node", "node3", `{address: 192.0.2.3, nodeCIDRs: [10.96.0.0/24]}`), "Node node3: spec.nodeCIDRs[0]: 10.96.0.10, the address of service kube-system/dns, is inside 10.96.0.0/24: choose another range, or move it first"},
		{"gateway that is redirected", named("Node", "node3", `{address: 192.0.2.3, nodeCIDRs: [10.220.5.0/24]}`), "Node node3: spec.nodeCIDRs[0]: 10.220.5.1, which is the gateway then, is the frontend of redirect kube-system/odd: choose another range, or change the redirect first"},
		{"CIDR around a SNAT address", named("Node", "node3", `{address: 192.0.2.3, nodeCIDRs: [192.0.2.64/26]}`), `Node node3: spec.nodeCIDRs: 192.0.2.77, which rule "mail" of the Masquerade gives, is inside 192.0.2.64/26: choose another range, or change the rule first`},
		{"CIDR of an endpoint goes", named("Node", "node1", `{address: 192.0.2.1, nodeCIDRs: [10.200.0.0/24]}`), "Node node1: spec.nodeCIDRs: 10.210.0.7 of endpoint shop/cart-0 is in no node CIDR of the node then: keep the CIDR that it is in, or delete the endpoint first"},
		{"endpoint becomes the gateway", named("Node", "node1", `{address: 192.0.2.1, nodeCIDRs: [10.210.0.0/24, 10.200.0.8/30]}`), "Node node1: spec.nodeCIDRs: 10.200.0.8 of endpoint shop/cart-1 is the network or broadcast address of 10.200.0.8/30 then: keep the CIDR that it is in, or delete the endpoint first"},

		{"pool overlaps another", named("Pool", "more", `{cidrs: [10.9.0.0/16, 10.201.8.0/24], maskSize: 24}`), `Pool more: spec.cidrs[1]: 10.201.8.0/24 overlaps 10.201.0.0/16 of pool "main": give each pool addresses of its own`},
		{"pool around a node", named("Pool", "more", `{cidrs: [192.0.2.0/30], maskSize: 30}`), `Pool more: spec.cidrs[0]: 192.0.2.1, the address of node "node1", is inside 192.0.2.0/30: choose another range, or move it first` + "\n" +
			`Pool more: spec.cidrs[0]: 192.0.2.2, the address of node "node2", is inside 192.0.2.0/30: choose another range, or move it first`},
		{"pool around a service", named("Pool", "more", `{cidrs: [10.96.0.0/16], maskSize: 24}`), "Pool more: spec.cidrs[0]: 10.96.0.10, the address of service kube-system/dns, is inside 10.96.0.0/16: choose another range, or move it first"},
		{"pool around a SNAT address", named("Pool", "more", `{cidrs: [192.0.2.64/26], maskSize: 28}`), `Pool more: spec.cidrs: 192.0.2.77, which rule "mail" of the Masquerade gives, is inside 192.0.2.64/26: choose another range, or change the rule first`},
		{"pool with a redirected gateway", named("Pool", "more", `{cidrs: [10.220.0.0/16], maskSize: 24}`), "Pool more: spec.cidrs[0]: 10.220.5.1, a gateway of nodes to come, is the frontend of redirect kube-system/odd: choose another range, or change the redirect first"},
		{"pool loses what a node has", named("Pool", "main", `{cidrs: [10.201.0.0/16], maskSize: 24}`), `Pool main: spec.cidrs: 10.200.0.0/24, which was in 10.200.0.0/16, belongs to node "node1": keep 10.200.0.0/16, and append what is new; disabled: true stops giving` + "\n" +
			`Pool main: spec.cidrs: 10.200.1.0/24, which was in 10.200.0.0/16, belongs to node "node2": keep 10.200.0.0/16, and append what is new; disabled: true stops giving`},
		{"pool shrinks below a node", named("Pool", "main", `{cidrs: [10.200.0.0/24, 10.201.0.0/16], maskSize: 24}`), `Pool main: spec.cidrs: 10.200.1.0/24, which was in 10.200.0.0/16, belongs to node "node2": keep 10.200.0.0/16, and append what is new; disabled: true stops giving`},

		{"endpoint of no node", inShop("Endpoint", "a", `{node: node9, address: 10.200.0.9}`), `Endpoint shop/a: spec.node: there is no node "node9": make it first, or correct the name`},
		{"endpoint without address", inShop("Endpoint", "a", `{node: node1}`), "Endpoint shop/a: spec.address: missing: give one of [10.200.0.0/24 10.210.0.0/24]"},
		{"endpoint of another node's CIDR", inShop("Endpoint", "a", `{node: node1, address: 10.200.1.9}`), "Endpoint shop/a: spec.address: 10.200.1.9 is in no node CIDR of the node: give another one of [10.200.0.0/24 10.210.0.0/24], or leave it out"},
		{"endpoint is the gateway", inShop("Endpoint", "a", `{node: node1, address: 10.200.0.1}`), "Endpoint shop/a: spec.address: 10.200.0.1 is the gateway of 10.200.0.0/24: give another one of [10.200.0.0/24 10.210.0.0/24], or leave it out"},
		{"endpoint is the network", inShop("Endpoint", "a", `{node: node1, address: 10.210.0.0}`), "Endpoint shop/a: spec.address: 10.210.0.0 is the network or broadcast address of 10.210.0.0/24: give another one of [10.200.0.0/24 10.210.0.0/24], or leave it out"},
		{"endpoint is the broadcast", inShop("Endpoint", "a", `{node: node1, address: 10.210.0.255}`), "Endpoint shop/a: spec.address: 10.210.0.255 is the network or broadcast address of 10.210.0.0/24: give another one of [10.200.0.0/24 10.210.0.0/24], or leave it out"},
		{"address of another endpoint", inShop("Endpoint", "a", `{node: node1, address: 10.210.0.7}`), "Endpoint shop/a: spec.address: 10.210.0.7 is also the address of endpoint shop/cart-0: give another, or leave it out"},
		{"endpoint moves", inShop("Endpoint", "cart-0", `{node: node2, address: 10.200.1.7}`), `Endpoint shop/cart-0: spec.node: it is on node "node1": delete the endpoint first to move it`},
		{"endpoint changes its address", inShop("Endpoint", "cart-0", `{node: node1, address: 10.210.0.9}`), "Endpoint shop/cart-0: spec.address: it has 10.210.0.7: delete the endpoint first to change that"},

		{"service at a node", inShop("Service", "a", `{address: 192.0.2.1, ports: [{port: 80}]}`), `Service shop/a: spec.address: 192.0.2.1 is the address of node "node1": choose an address that nobody has`},
		{"service among pods", inShop("Service", "a", `{address: 10.210.0.99, ports: [{port: 80}]}`), `Service shop/a: spec.address: 10.210.0.99 is inside 10.210.0.0/24, a node CIDR of node "node1": choose an address outside of the pods' ranges`},
		{"service in a pool", inShop("Service", "a", `{address: 10.201.0.99, ports: [{port: 80}]}`), `Service shop/a: spec.address: 10.201.0.99 is inside 10.201.0.0/16, a CIDR of pool "main": choose an address outside of the pods' ranges`},
		{"port of another service", inShop("Service", "a", `{address: 10.96.0.10, ports: [{port: 53, name: a}, {port: 53, name: b, protocol: UDP}]}`), "Service shop/a: spec.ports[1]: 10.96.0.10:53/UDP is also a port of service kube-system/dns: give each service an address or ports of its own"},
		{"backend is a service", inShop("Service", "a", `{address: 10.96.0.11, ports: [{port: 80}], backends: [192.0.2.9, 10.96.0.10]}`), "Service shop/a: spec.backends[1]: 10.96.0.10 is the address of service kube-system/dns: name its backends instead"},
		{"service is a backend", inShop("Service", "a", `{address: 198.51.100.53, ports: [{port: 80}]}`), "Service shop/a: spec.address: 198.51.100.53 is a backend of service kube-system/dns: choose an address that nobody has"},

		{"service redirected twice", redirectOf("a", `{serviceMatcher: {serviceName: dns, namespace: kube-system, toPorts: [{port: "53", protocol: TCP}]}}`), "LocalRedirectPolicy kube-system/a: spec.redirectFrontend: service kube-system/dns is also redirected by kube-system/dns: keep one of them"},
		{"address redirected twice", redirectOf("a", `{addressMatcher: {ip: 169.254.169.254, toPorts: [{port: "80", protocol: TCP}]}}`), "LocalRedirectPolicy kube-system/a: spec.redirectFrontend: 169.254.169.254:80/TCP is also redirected by kube-system/metadata: keep one of them"},
		{"gateway redirected", redirectOf("a", `{addressMatcher: {ip: 10.200.1.1, toPorts: [{port: "80", protocol: TCP}]}}`), `LocalRedirectPolicy kube-system/a: spec.redirectFrontend.addressMatcher.ip: 10.200.1.1 is the gateway of node "node2": choose another address`},
		{"gateway to come redirected", redirectOf("a", `{addressMatcher: {ip: 10.201.9.1, toPorts: [{port: "80", protocol: TCP}]}}`), `LocalRedirectPolicy kube-system/a: spec.redirectFrontend.addressMatcher.ip: 10.201.9.1 is the gateway of a node to come, by pool "main": choose another address`},

		{"SNAT address among pods", named("Masquerade", "cluster", `{rules: [{name: a, action: drop}, {name: b, action: snat, addresses: [192.0.2.9, 10.200.1.44]}]}`), `Masquerade cluster: spec.rules[1].addresses[1]: 10.200.1.44 is inside 10.200.1.0/24, a node CIDR of node "node2": choose an address outside of the pods' ranges`},
		{"SNAT address in a pool", named("Masquerade", "cluster", `{rules: [{name: b, action: snat, addresses: [10.200.99.44]}]}`), `Masquerade cluster: spec.rules[0].addresses[0]: 10.200.99.44 is inside 10.200.0.0/16, a CIDR of pool "main": choose an address outside of the pods' ranges`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Admit(viewOf(t, cluster), parseOne(t, c.doc)); err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestAdmitTakes(t *testing.T) {
	for _, c := range []struct{ name, doc string }{
		{"a node", named("Node", "node3", `{address: 192.0.2.3, nodeCIDRs: [10.200.2.0/24], pool: main}`)},
		{"another address of a node", named("Node", "node1", `{address: 192.0.2.33, nodeCIDRs: [10.200.0.0/24, 10.210.0.0/24]}`)},
		{"more CIDRs of a node", named("Node", "node1", `{address: 192.0.2.1, nodeCIDRs: [10.200.0.0/24, 10.210.0.0/24, 10.211.0.0/24]}`)},
		{"a CIDR of a node grows", named("Node", "node1", `{address: 192.0.2.1, nodeCIDRs: [10.200.0.0/24, 10.210.0.0/23]}`)},
		{"more CIDRs of a pool, in another order", named("Pool", "main", `{cidrs: [10.201.0.0/16, 10.200.0.0/16, 10.202.0.0/16], maskSize: 24}`)},
		{"what a pool needs not to keep", named("Pool", "main", `{cidrs: [10.200.0.0/23], maskSize: 26}`)},
		{"a pool that gives nothing", named("Pool", "main", `{cidrs: [10.200.0.0/16, 10.201.0.0/16], maskSize: 24, disabled: true}`)},
		{"other labels of an endpoint", inShop("Endpoint", "cart-0", `{node: node1, address: 10.210.0.7, labels: {app: other}}`)},
		{"an endpoint", inShop("Endpoint", "a", `{node: node1, address: 10.200.0.2}`)},
		{"another port of an address", inShop("Service", "a", `{address: 10.96.0.10, ports: [{port: 53}]}`)},
		{"a service again", `{apiVersion: ringway.io/v1, kind: Service, metadata: {name: dns, namespace: kube-system}, spec: {address: 10.96.0.10, ports: [{port: 53, protocol: UDP}], backends: [198.51.100.53]}}`},
		{"a link-local service", inShop("Service", "a", `{address: 169.254.1.1, ports: [{port: 53}], selector: {app: cart}}`)},
		{"another port of a redirected address", redirectOf("a", `{addressMatcher: {ip: 169.254.169.254, toPorts: [{port: "81", protocol: TCP}]}}`)},
		{"a redirect of a service to come", redirectOf("a", `{serviceMatcher: {serviceName: none, namespace: kube-system}}`)},
		{"a redirect among pods", redirectOf("a", `{addressMatcher: {ip: 10.201.9.2, toPorts: [{port: "80", protocol: TCP}]}}`)},
		{"a SNAT address of nobody", named("Masquerade", "cluster", `{rules: [{name: b, action: snat, addresses: [192.0.2.99]}]}`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Admit(viewOf(t, cluster), parseOne(t, c.doc)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAdmitDelete(t *testing.T) {
	for _, c := range []struct{ kind, namespace, name, want string }{
		{KindNode, "", "node1", "Node node1: metadata.name: Endpoint shop/cart-0 is on it, and 1 more: delete them first"},
		{KindPool, "", "main", "Pool main: metadata.name: Node node1 gets its CIDRs from it, and 1 more: delete them first"},
		{KindNamespace, "", "shop", "Namespace shop: metadata.name: Endpoint shop/cart-0 is in it, and 2 more: delete them first"},
		{KindRoutingConfig, "", "cluster", "RoutingConfig cluster: spec: it holds for 2 nodes: apply another one instead, or delete the nodes first"},
		{KindNode, "", "node2", ""},
		{KindNode, "", "node9", ""},
		{KindNamespace, "", "empty", ""},
		{KindEndpoint, "shop", "cart-0", ""},
		{KindService, "kube-system", "dns", ""},
		{KindRedirect, "kube-system", "dns", ""},
		{KindNetworkPolicy, "shop", "web", ""},
		{KindMasquerade, "", "cluster", ""},
	} {
		v := viewOf(t, cluster)
		err := AdmitDelete(v, store.Key{Kind: c.kind, Namespace: c.namespace, Name: c.name})
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// With the last of them gone, the rest may go, too.
func TestAdmitDeleteOneAfterTheOther(t *testing.T) {
	v := viewOf(t, cluster)
	kinds := Kinds()
	for i := len(kinds) - 1; i >= 0; i-- {
		for _, item := range v.List(kinds[i].Name, "") {
			if err := AdmitDelete(v, item.Key); err != nil {
				t.Error(err)
			}
			delete(v, item.Key)
		}
	}
	if len(v) > 0 {
		t.Errorf("left: %v", v)
	}
}

// What policies say of one pod fits into a table set.
func TestAdmitBoundsRulesOfAPod(t *testing.T) {
	v := viewOf(t, cluster)
	policy := func(name, selector string) Object {
		return parseOne(t, fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %s, namespace: shop}, spec: {podSelector: {%s}, ingress: [%s]}}`,
			name, selector, strings.Repeat("{},", maxRules)))
	}
	pod := func(name, app string) Object {
		return parseOne(t, inShop("Endpoint", name, fmt.Sprintf(`{node: node1, address: 10.200.0.9, labels: {app: %s}}`, app)))
	}
	put := func(o Object) {
		t.Helper()
		if err := Admit(v, o); err != nil {
			t.Fatal(err)
		}
		v[Key(o)] = o
	}
	identity := func(id uint32, app string) {
		v[IdentityKey(id)] = &Identity{ID: id, Namespace: "shop", Labels: map[string]string{"app": app}}
	}
	identity(256, "other")
	for i := range 4 {
		put(policy(fmt.Sprintf("a%d", i), "matchLabels: {app: cart}"))
	}
	put(policy("b", "matchLabels: {app: other}"))
	put(policy("c", "matchLabels: {app: cart}")) // no pod has it
	const want = "pods with the labels app=cart would have 5120 ingress rules: keep to 4096: a rule takes many peers and ports"
	if err := Admit(v, pod("x", "cart")); err == nil || err.Error() != "Endpoint shop/x: spec.labels: "+want {
		t.Errorf("got %v", err)
	}
	if err := Admit(v, pod("x", "other")); err != nil {
		t.Error(err)
	}
	delete(v, store.Key{Kind: KindNetworkPolicy, Namespace: "shop", Name: "c"})
	if err := Admit(v, pod("x", "cart")); err != nil {
		t.Error(err)
	}
	identity(257, "cart")
	if err := Admit(v, policy("c", "matchLabels: {app: cart}")); err == nil || err.Error() != "NetworkPolicy shop/c: spec: "+want {
		t.Errorf("got %v", err)
	}
	if err := Admit(v, policy("c", "matchLabels: {app: else}")); err != nil {
		t.Error(err)
	}
}

// A node that is kept is read once, and a copy of it that is changed again.
func TestFactsAreOfTheirNode(t *testing.T) {
	o := parseOne(t, everyKind[0])
	kept, err := DecodeStored(Key(o), canonical(t, o))
	if err != nil {
		t.Fatal(err)
	}
	n := kept.(*Node)
	if n.known == nil || n.facts() != n.known || n.facts().address.String() != "192.0.2.1" {
		t.Errorf("got %+v", n.facts())
	}
	other := *n
	other.Spec.Address = "192.0.2.9"
	if got := other.facts().address.String(); got != "192.0.2.9" {
		t.Errorf("got %s", got)
	}
}

func TestInherit(t *testing.T) {
	node := parseOne(t, in(nodeDoc, `{address: 192.0.2.1}`))
	Inherit(node, parseOne(t, everyKind[0]))
	if got := node.(*Node).Spec.NodeCIDRs; len(got) != 1 || got[0] != "10.200.1.0/24" {
		t.Errorf("got %v", got)
	}
	e := parseOne(t, in(endpointDoc, `{node: node1}`))
	Inherit(e, parseOne(t, everyKind[3]))
	if got := e.(*Endpoint).Spec.Address; got != "10.200.1.7" {
		t.Errorf("got %v", got)
	}
	given := parseOne(t, in(endpointDoc, `{node: node1, address: 10.200.1.8}`))
	Inherit(given, e)
	if got := given.(*Endpoint).Spec.Address; got != "10.200.1.8" {
		t.Errorf("got %v", got)
	}
}

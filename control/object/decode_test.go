package object

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"ringway/control"
)

// Documents with one thing wrong, in the words of YAML, and the whole refusal.
// In policy and the other helpers, %s is the spec.
const (
	policyDoc   = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web}, spec: %s}`
	nodeDoc     = `{apiVersion: ringway.io/v1, kind: Node, metadata: {name: node1}, spec: %s}`
	poolDoc     = `{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: main}, spec: %s}`
	endpointDoc = `{apiVersion: ringway.io/v1, kind: Endpoint, metadata: {name: cart-0, namespace: shop}, spec: %s}`
	serviceDoc  = `{apiVersion: ringway.io/v1, kind: Service, metadata: {name: api}, spec: %s}`
	redirectDoc = `{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: dns, namespace: kube-system}, spec: %s}`
	masqDoc     = `{apiVersion: ringway.io/v1, kind: Masquerade, metadata: {name: cluster}, spec: %s}`
	routingDoc  = `{apiVersion: ringway.io/v1, kind: RoutingConfig, metadata: {name: cluster}, spec: %s}`
	metaDoc     = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: %s, spec: {podSelector: {}}}`
)

const (
	labelKeySyntax   = "write it as in app or app.kubernetes.io/name"
	labelValueSyntax = "use at most 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at both ends"
)

// peer is a policy whose first ingress rule is from that.
func peer(p string) string { return fmt.Sprintf(policyDoc, "{ingress: [{from: ["+p+"]}]}") }

// port is a policy whose first ingress rule has that port.
func port(p string) string { return fmt.Sprintf(policyDoc, "{ingress: [{ports: ["+p+"]}]}") }

func in(doc, spec string) string { return fmt.Sprintf(doc, spec) }

var badDocuments = []struct{ name, doc, want string }{
	// What every kind has.
	{"no mapping", `- a`, "line 1: it is not a mapping: write apiVersion, kind, metadata and spec"},
	{"no kind", `{apiVersion: v1}`, "line 1: kind: missing: write one of RoutingConfig, Pool, Node, Masquerade, Namespace, Endpoint, Service, CiliumLocalRedirectPolicy, NetworkPolicy"},
	{"unknown kind", `{apiVersion: apps/v1, kind: Deployment}`, `line 1: kind: "Deployment" is not known: write one of RoutingConfig, Pool, Node, Masquerade, Namespace, Endpoint, Service, CiliumLocalRedirectPolicy, NetworkPolicy`},
	{"kind in lower case", `{apiVersion: v1, kind: networkpolicy}`, `line 1: kind: "networkpolicy" is not known: write NetworkPolicy`},
	{"short kind", `{apiVersion: v1, kind: LocalRedirectPolicy}`, `line 1: kind: "LocalRedirectPolicy" is not known: write CiliumLocalRedirectPolicy`},
	{"no version", `{kind: Node}`, "line 1: Node: apiVersion: missing: write ringway.io/v1"},
	{"old version", "# a policy\n{apiVersion: extensions/v1beta1, kind: NetworkPolicy, metadata: {name: web}}", `NetworkPolicy default/web: apiVersion: "extensions/v1beta1" has no NetworkPolicy here: write networking.k8s.io/v1`},
	{"version of Kubernetes", `{apiVersion: v1, kind: Service, metadata: {name: web}}`, `Service default/web: apiVersion: "v1" has no Service here: write ringway.io/v1`},
	{"unknown top field", `{apiVersion: v1, kind: Namespace, metadata: {name: a}, data: {}}`, "Namespace a: data: unknown field: known here: apiVersion, kind, metadata"},
	{"unknown field in two lines", `{apiVersion: v1, kind: Namespace, metadata: {name: a}, "b\nc": {}}`, `Namespace a: "b\nc": unknown field: known here: apiVersion, kind, metadata`},
	{"unknown field without end", `{apiVersion: v1, kind: Namespace, metadata: {name: a}, ` + strings.Repeat("x", 5000) + `: {}}`, `Namespace a: ` + strings.Repeat("x", 80) + `…: unknown field: known here: apiVersion, kind, metadata`},
	{"spec is a list", in(nodeDoc, `[]`), "Node node1: spec: a list is not a mapping: write key: value lines; known here: address, nodeCIDRs, pool, vtepMAC"},
	{"no name", in(metaDoc, `{}`), "line 1: NetworkPolicy: metadata.name: missing: " + nameSyntax},
	{"name is a number", in(metaDoc, `{name: 7}`), `line 1: NetworkPolicy: metadata.name: 7 is not a string: write "7", in quotes`},
	{"name in upper case", in(metaDoc, `{name: Web}`), `NetworkPolicy default/Web: metadata.name: "Web" is not an RFC 1123 name: ` + nameSyntax},
	{"name in two lines", in(metaDoc, `{name: "a\nb"}`), `NetworkPolicy default/"a\nb": metadata.name: "a\nb" is not an RFC 1123 name: ` + nameSyntax},
	{"name too long", in(metaDoc, `{name: `+strings.Repeat("a", 254)+`}`), "NetworkPolicy default/" + strings.Repeat("a", 80) + `: metadata.name: "` + strings.Repeat("a", 80) + `" is not an RFC 1123 name: ` + nameSyntax},
	{"node name with a long part", `{apiVersion: ringway.io/v1, kind: Node, metadata: {name: ` + strings.Repeat("a", 64) + `}, spec: {address: 192.0.2.1}}`, "Node " + strings.Repeat("a", 64) + `: metadata.name: "` + strings.Repeat("a", 64) + `" has a part of 64 characters: keep to 63 between dots`},
	{"generateName", in(metaDoc, `{name: a, generateName: a-}`), "NetworkPolicy default/a: metadata.generateName: names are not made up here: write metadata.name"},
	{"unknown metadata", in(metaDoc, `{name: a, label: {}}`), "NetworkPolicy default/a: metadata.label: unknown field: known here: name, namespace, labels, annotations, resourceVersion"},
	{"misspelt metadata", in(metaDoc, `{name: a, Name_Space: b}`), "NetworkPolicy default/a: metadata.Name_Space: unknown field: write namespace"},
	{"bad namespace", in(metaDoc, `{name: a, namespace: b.c}`), `NetworkPolicy b.c/a: metadata.namespace: "b.c" is not an RFC 1123 label: use a-z, 0-9 and -, at most 63, with a letter or digit at both ends`},
	{"namespace of a node", `{apiVersion: ringway.io/v1, kind: Node, metadata: {name: a, namespace: b}, spec: {address: 192.0.2.1}}`, "Node a: metadata.namespace: a Node is in none: take it out"},
	{"namespace with a dot", `{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}`, `Namespace a.b: metadata.name: "a.b" is not an RFC 1123 label: use a-z, 0-9 and -, at most 63, with a letter or digit at both ends`},
	{"label key", in(metaDoc, `{name: a, labels: {"a b": c}}`), `NetworkPolicy default/a: metadata.labels.a b: "a b" is no label key: ` + labelKeySyntax},
	{"label value", in(metaDoc, `{name: a, labels: {a: "b c"}}`), `NetworkPolicy default/a: metadata.labels.a: "b c" is no label value: ` + labelValueSyntax},
	{"label value is a boolean", in(metaDoc, `{name: a, labels: {a: true}}`), `NetworkPolicy default/a: metadata.labels.a: true is not a string: write "true", in quotes`},
	{"label value is a number", in(metaDoc, `{name: a, labels: {a: 1.10}}`), `NetworkPolicy default/a: metadata.labels.a: 1.10 is not a string: write "1.10", in quotes`},
	{"annotation", in(metaDoc, `{name: a, annotations: {"a b": c}}`), `NetworkPolicy default/a: metadata.annotations.a b: "a b" is no annotation: write it as in note or example.com/note`},
	{"resourceVersion", in(metaDoc, `{name: a, resourceVersion: new}`), `NetworkPolicy default/a: metadata.resourceVersion: "new" is no revision: write it as ringway get shows it, or leave it out`},
	{"our annotation misspelt", in(metaDoc, `{name: a, annotations: {ringway.io/acton: Deny}}`), "NetworkPolicy default/a: metadata.annotations.ringway.io/acton: unknown annotation: known here: ringway.io/action, ringway.io/priority"},
	{"our annotation elsewhere", `{apiVersion: v1, kind: Namespace, metadata: {name: a, annotations: {ringway.io/action: Deny}}}`, "Namespace a: metadata.annotations.ringway.io/action: a Namespace has no annotations of ringway.io/: take it out"},

	// NetworkPolicy.
	{"action", in(metaDoc, `{name: a, annotations: {ringway.io/action: deny}}`), `NetworkPolicy default/a: metadata.annotations.ringway.io/action: "deny" is not known: write Allow or Deny`},
	{"priority", in(metaDoc, `{name: a, annotations: {ringway.io/priority: "1001"}}`), `NetworkPolicy default/a: metadata.annotations.ringway.io/priority: "1001" is no priority: write "0" to "1000", in quotes`},
	{"priority with a zero", in(metaDoc, `{name: a, annotations: {ringway.io/priority: "010"}}`), `NetworkPolicy default/a: metadata.annotations.ringway.io/priority: "010" is no priority: write "0" to "1000", in quotes`},
	{"misspelt from", in(policyDoc, `{podSelector: {}, ingress: [{form: []}]}`), "NetworkPolicy default/web: spec.ingress[0].form: unknown field: known here: ports, from"},
	{"to in ingress", in(policyDoc, `{podSelector: {}, ingress: [{to: []}]}`), "NetworkPolicy default/web: spec.ingress[0].to: unknown field: known here: ports, from"},
	{"empty entry", in(policyDoc, `{podSelector: {}, ingress: [null]}`), "NetworkPolicy default/web: spec.ingress[0]: the entry is empty: fill it in or take it out"},
	{"selector key", in(policyDoc, `{podSelector: {matchLabels: {-a: b}}}`), `NetworkPolicy default/web: spec.podSelector.matchLabels.-a: "-a" is no label key: ` + labelKeySyntax},
	{"selector value", in(policyDoc, `{podSelector: {matchLabels: {a: b/c}}}`), `NetworkPolicy default/web: spec.podSelector.matchLabels.a: "b/c" is no label value: ` + labelValueSyntax},
	{"operator", in(policyDoc, `{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}`), `NetworkPolicy default/web: spec.podSelector.matchExpressions[0].operator: "in" is not known: write In, NotIn, Exists or DoesNotExist`},
	{"In without values", in(policyDoc, `{podSelector: {matchExpressions: [{key: a, operator: In}]}}`), "NetworkPolicy default/web: spec.podSelector.matchExpressions[0].values: missing: write the values that In takes, or the operator Exists or DoesNotExist"},
	{"Exists with values", in(policyDoc, `{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}`), "NetworkPolicy default/web: spec.podSelector.matchExpressions[0].values: Exists takes none: take them out, or write the operator In or NotIn"},
	{"policy type", in(policyDoc, `{podSelector: {}, policyTypes: [ingress]}`), `NetworkPolicy default/web: spec.policyTypes[0]: "ingress" is not known: write Ingress or Egress`},
	{"policy types", in(policyDoc, `{podSelector: {}, policyTypes: [Ingress, Egress, Ingress]}`), "NetworkPolicy default/web: spec.policyTypes: 3 are too many: write Ingress, Egress or both"},
	{"empty peer", peer(`{}`), "NetworkPolicy default/web: spec.ingress[0].from[0]: it says nobody: write podSelector, namespaceSelector or ipBlock; for everybody, leave the whole list out"},
	{"block beside a selector", peer(`{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}`), "NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock: there is a selector beside it: make it a peer of its own"},
	{"no cidr", peer(`{ipBlock: {}}`), "NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock.cidr: missing: write it as in 10.0.0.0/8"},
	{"cidr without a length", peer(`{ipBlock: {cidr: 10.0.0.1}}`), `NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock.cidr: "10.0.0.1" is not a CIDR: write it as in 10.0.0.0/8`},
	{"mapped cidr", peer(`{ipBlock: {cidr: "::ffff:10.0.0.0/104"}}`), `NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock.cidr: "::ffff:10.0.0.0/104" is an IPv4 block as IPv6 writes it: write it as in 10.0.0.0/8`},
	{"exception elsewhere", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}`), "NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/16 is not inside 10.0.0.0/8: write a part of cidr, or take it out"},
	{"exception too large", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [0.0.0.0/0]}}`), "NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock.except[0]: 0.0.0.0/0 is not inside 10.0.0.0/8: write a part of cidr, or take it out"},
	{"exception of everything", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}`), "NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock.except[0]: it is the whole of 10.0.0.0/8: write a part of it, or take the peer out"},
	{"exception of another family", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: ["2001:db8::/32"]}}`), "NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock.except[0]: 2001:db8::/32 is not inside 10.0.0.0/8: write a part of cidr, or take it out"},
	{"port 0", port(`{port: 0}`), "NetworkPolicy default/web: spec.ingress[0].ports[0].port: 0 is out of range: choose 1 to 65535"},
	{"port 65536", port(`{port: 65536}`), "NetworkPolicy default/web: spec.ingress[0].ports[0].port: 65536 is out of range: choose 1 to 65535"},
	{"port in quotes", port(`{port: "80"}`), `NetworkPolicy default/web: spec.ingress[0].ports[0].port: "80" is no name of a port: use a-z, 0-9 and -, at most 15, with a letter among them, or a number without quotes`},
	{"port with a fraction", port(`{port: 80.5}`), "NetworkPolicy default/web: spec.ingress[0].ports[0].port: 80.5 is neither a whole number nor a name: write digits, or a name in quotes"},
	{"port name", port(`{port: http_alt}`), `NetworkPolicy default/web: spec.ingress[0].ports[0].port: "http_alt" is no name of a port: use a-z, 0-9 and -, at most 15, with a letter among them, or a number without quotes`},
	{"protocol", port(`{protocol: tcp}`), `NetworkPolicy default/web: spec.ingress[0].ports[0].protocol: "tcp" is not known: write TCP, UDP, SCTP or ICMP`},
	{"endPort alone", port(`{endPort: 80}`), "NetworkPolicy default/web: spec.ingress[0].ports[0].endPort: there is no port that the range begins with: write port, or take endPort out"},
	{"endPort of a name", port(`{port: http, endPort: 80}`), `NetworkPolicy default/web: spec.ingress[0].ports[0].endPort: port is the name "http", which is no beginning of a range: write port as a number, or take endPort out`},
	{"endPort below", port(`{port: 80, endPort: 79}`), "NetworkPolicy default/web: spec.ingress[0].ports[0].endPort: 79 is below port 80: write the lower one as port and the higher one as endPort"},
	{"endPort out of range", port(`{port: 80, endPort: 70000}`), "NetworkPolicy default/web: spec.ingress[0].ports[0].endPort: 70000 is out of range: choose 1 to 65535"},
	{"ICMP type", port(`{protocol: ICMP, port: 256}`), "NetworkPolicy default/web: spec.ingress[0].ports[0].port: 256 is out of range: choose 0 to 255"},
	{"ICMP name", port(`{protocol: ICMP, port: echo}`), `NetworkPolicy default/web: spec.ingress[0].ports[0].port: "echo" is no ICMP type: write its number, without quotes`},

	// Node.
	{"no address", in(nodeDoc, `{}`), "Node node1: spec.address: missing: give the node's IPv4 address"},
	{"node address", in(nodeDoc, `{address: 127.0.0.1}`), "Node node1: spec.address: 127.0.0.1 is a loopback address: give the unicast address by which other nodes reach it"},
	{"node address of IPv6", in(nodeDoc, `{address: "2001:db8::1"}`), "Node node1: spec.address: 2001:db8::1 is IPv6: give the node's IPv4 address"},
	{"node CIDR", in(nodeDoc, `{address: 192.0.2.1, nodeCIDRs: [10.200.1.5/24]}`), "Node node1: spec.nodeCIDRs[0]: 10.200.1.5/24 has host bits set: write 10.200.1.0/24"},
	{"node CIDR too long", in(nodeDoc, `{address: 192.0.2.1, nodeCIDRs: [10.200.1.0/24, 10.200.2.0/31]}`), "Node node1: spec.nodeCIDRs[1]: 10.200.2.0/31 is too long: give at least a /30: a gateway and a pod must fit"},
	{"node CIDRs overlap", in(nodeDoc, `{address: 192.0.2.1, nodeCIDRs: [10.200.0.0/16, 10.200.2.0/24]}`), `Node node1: spec.nodeCIDRs[1]: 10.200.2.0/24 overlaps 10.200.0.0/16 of node "node1": give each node addresses of its own`},
	{"node inside its CIDR", in(nodeDoc, `{address: 10.200.1.9, nodeCIDRs: [10.200.1.0/24]}`), `Node node1: spec.address: 10.200.1.9 is inside 10.200.1.0/24, a node CIDR of node "node1": keep node addresses out of the pods' ranges`},
	{"VTEP MAC", in(nodeDoc, `{address: 192.0.2.1, vtepMAC: "03:00:00:00:00:01"}`), "Node node1: spec.vtepMAC: 03:00:00:00:00:01 is a group address: clear the lowest bit of the first byte"},
	{"misspelt CIDRs", in(nodeDoc, `{address: 192.0.2.1, nodeCidrs: []}`), "Node node1: spec.nodeCidrs: unknown field: write nodeCIDRs"},
	{"name of a pool", in(nodeDoc, `{address: 192.0.2.1, pool: "a b"}`), `Node node1: spec.pool: "a b" is not an RFC 1123 name: ` + nameSyntax},

	// Pool.
	{"empty pool", in(poolDoc, `{}`), "Pool main: spec.cidrs: there is none: write what nodes are to get their CIDRs from, as in [10.200.0.0/16]\n" +
		"Pool main: spec.maskSize: missing: write how many bits the CIDR of a node has, as in 24"},
	{"mask size", in(poolDoc, `{cidrs: [10.200.0.0/16], maskSize: 31}`), "Pool main: spec.maskSize: 31 is out of range: choose 8 to 30"},
	{"pool smaller than a node", in(poolDoc, `{cidrs: [10.200.0.0/16, 10.202.0.0/25], maskSize: 24}`), "Pool main: spec.cidrs[1]: 10.202.0.0/25 is smaller than the /24 of one node: give a larger one, or a longer maskSize"},
	{"pool overlaps itself", in(poolDoc, `{cidrs: [10.200.0.0/16, 10.200.8.0/24], maskSize: 24}`), "Pool main: spec.cidrs[1]: 10.200.8.0/24 overlaps 10.200.0.0/16, entry 0: name each address once"},
	{"pool of multicast", in(poolDoc, `{cidrs: [224.0.0.0/16], maskSize: 24}`), "Pool main: spec.cidrs[0]: 224.0.0.0/16 is in the multicast range: give a unicast range, as in 10.200.1.0/24"},
	{"mask size in quotes", in(poolDoc, `{cidrs: [10.200.0.0/16], maskSize: "24"}`), "Pool main: spec.maskSize: 24 is not a whole number: write digits, without quotes"},

	// Endpoint.
	{"no node", in(endpointDoc, `{address: 10.200.1.7}`), "Endpoint shop/cart-0: spec.node: missing: write the name of the node that the pod is on"},
	{"endpoint address", in(endpointDoc, `{node: node1, address: 10.200.1}`), `Endpoint shop/cart-0: spec.address: "10.200.1" is not an IP address: write it as in 192.0.2.1`},
	{"labels beside spec", in(endpointDoc, `{node: node1, label: {}}`), "Endpoint shop/cart-0: spec.label: unknown field: known here: node, address, labels, ports"},
	{"label of an endpoint", in(endpointDoc, `{node: node1, labels: {"k8s:app": a}}`), `Endpoint shop/cart-0: spec.labels.k8s:app: "k8s:app" is no label key: ` + labelKeySyntax},
	{"named port", in(endpointDoc, `{node: node1, ports: [{name: http, port: 80}, {name: HTTP, port: 0, protocol: ICMP}]}`),
		`Endpoint shop/cart-0: spec.ports[1].name: "HTTP" is no name of a port: ` + portNameSyntax + "\n" +
			`Endpoint shop/cart-0: spec.ports[1].protocol: "ICMP" is not known: write TCP, UDP or SCTP` + "\n" +
			"Endpoint shop/cart-0: spec.ports[1].port: 0 is out of range: choose 1 to 65535"},
	{"port name twice", in(endpointDoc, `{node: node1, ports: [{name: http, port: 80}, {name: http, port: 81, protocol: UDP}, {name: http, port: 82, protocol: TCP}]}`), `Endpoint shop/cart-0: spec.ports[2].name: "http" is also the name of entry 0: give each port of a protocol a name of its own`},

	// Service.
	{"service without ports", in(serviceDoc, `{address: 10.96.0.1}`), "Service default/api: spec.ports: there is none: give the service a port, as in [{port: 53, protocol: UDP}]"},
	{"service address", in(serviceDoc, `{address: 224.0.0.1, ports: [{port: 80}]}`), "Service default/api: spec.address: 224.0.0.1 is a multicast address: give a unicast address"},
	{"service port", in(serviceDoc, `{address: 10.96.0.1, ports: [{port: -1}]}`), "Service default/api: spec.ports[0].port: -1 is out of range: choose 1 to 65535"},
	{"service protocol", in(serviceDoc, `{address: 10.96.0.1, ports: [{port: 80, protocol: SCTP}]}`), `Service default/api: spec.ports[0].protocol: "SCTP" is not known: write TCP or UDP`},
	{"service ports without names", in(serviceDoc, `{address: 10.96.0.1, ports: [{port: 80, name: a}, {port: 81}]}`), "Service default/api: spec.ports[1].name: missing where there are several ports: use a-z, 0-9 and -, at most 63, with a letter or digit at both ends"},
	{"service port twice", in(serviceDoc, `{address: 10.96.0.1, ports: [{port: 80, name: a}, {port: 80, name: b}]}`), "Service default/api: spec.ports[1]: 10.96.0.1:80/TCP is also a port of this service: give each service an address or ports of its own"},
	{"selector and backends", in(serviceDoc, `{address: 10.96.0.1, ports: [{port: 80}], backends: [192.0.2.1], selector: {a: b}}`), "Service default/api: spec.selector: the backends are given already: keep one of selector and backends"},
	{"service name with a dot", `{apiVersion: ringway.io/v1, kind: Service, metadata: {name: a.b}, spec: {address: 10.96.0.1, ports: [{port: 80}]}}`, `Service default/a.b: metadata.name: "a.b" is not an RFC 1123 label: write it without dots`},
	{"service is its backend", in(serviceDoc, `{address: 10.96.0.1, ports: [{port: 80}], backends: [10.96.0.1]}`), "Service default/api: spec.backends[0]: 10.96.0.1 is the address of this service: name its backends instead"},

	// LocalRedirectPolicy.
	{"no frontend", in(redirectDoc, `{redirectFrontend: {}, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "53", protocol: UDP}]}}`), "LocalRedirectPolicy kube-system/dns: spec.redirectFrontend: there is none: write addressMatcher or serviceMatcher"},
	{"service of another namespace", in(redirectDoc, `{redirectFrontend: {serviceMatcher: {serviceName: dns, namespace: shop}}, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "53", protocol: UDP}]}}`), `LocalRedirectPolicy kube-system/dns: spec.redirectFrontend.serviceMatcher.namespace: "shop" is not the redirect's own namespace: write kube-system, or move the redirect`},
	{"port as a number", in(redirectDoc, `{redirectFrontend: {addressMatcher: {ip: 169.254.169.254, toPorts: [{port: 80, protocol: TCP}]}}, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "80", protocol: TCP}]}}`), `LocalRedirectPolicy kube-system/dns: spec.redirectFrontend.addressMatcher.toPorts[0].port: 80 is not a string: write "80", in quotes`},
	{"everybody is the backend", in(redirectDoc, `{redirectFrontend: {addressMatcher: {ip: 169.254.169.254, toPorts: [{port: "80", protocol: TCP}]}}, redirectBackend: {localEndpointSelector: {}, toPorts: [{port: "80", protocol: TCP}]}}`), "LocalRedirectPolicy kube-system/dns: spec.redirectBackend.localEndpointSelector: it selects every pod of the namespace: write matchLabels that the backends have"},
	{"node address", `{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: dns, annotations: {ringway.io/node-address: "::1"}}, spec: {redirectFrontend: {addressMatcher: {ip: 169.254.169.254, toPorts: [{port: "80", protocol: TCP}]}}, redirectBackend: {toPorts: [{port: "80", protocol: TCP}]}}}`, "LocalRedirectPolicy default/dns: metadata.annotations.ringway.io/node-address: ::1 is IPv6, which is not carried: write it as in 169.254.20.10"},

	// Masquerade and RoutingConfig.
	{"name of a singleton", `{apiVersion: ringway.io/v1, kind: Masquerade, metadata: {name: default}}`, `Masquerade default: metadata.name: there is one Masquerade, and "default" is not its name: write cluster`},
	{"rule without action", in(masqDoc, `{rules: [{name: a}]}`), "Masquerade cluster: spec.rules[0].action: missing: write snat, none or drop"},
	{"rule ports", in(masqDoc, `{rules: [{name: a, action: snat, ports: "9-1"}]}`), `Masquerade cluster: spec.rules[0].ports: "9-1" does not go upwards: write them as in 1024-65535`},
	{"masquerade CIDR", in(masqDoc, `{nonMasqueradeCIDRs: [10.0.0.1/8]}`), "Masquerade cluster: spec.nonMasqueradeCIDRs[0]: 10.0.0.1/8 has host bits set: write 10.0.0.0/8"},
	{"no routing", in(routingDoc, `{}`), "RoutingConfig cluster: spec.routing: missing: write overlay, direct or hybrid"},
	{"routing", in(routingDoc, `{routing: tunnel}`), `RoutingConfig cluster: spec.routing: "tunnel" is not known: write overlay, direct or hybrid`},
	{"VNI", in(routingDoc, `{routing: overlay, vxlan: {vni: 0}}`), "RoutingConfig cluster: spec.vxlan.vni: 0 is out of range: choose 1 to 16777215"},
	{"negative VNI", in(routingDoc, `{routing: overlay, vxlan: {vni: -5}}`), "RoutingConfig cluster: spec.vxlan.vni: -5 is out of range: choose 1 to 16777215"},
	{"VXLAN port", in(routingDoc, `{routing: overlay, vxlan: {port: 4294967376}}`), "RoutingConfig cluster: spec.vxlan.port: 4294967376 is out of range: choose 1 to 65535"},
	{"name of a rule twice", in(masqDoc, `{rules: [{name: a, action: drop}, {name: a, action: none}]}`), `Masquerade cluster: spec.rules[1].name: "a" is also the name of spec.rules[0]: give each rule a name of its own`},
	{"mode", in(routingDoc, `{routing: overlay, policy: {mode: off}}`), `RoutingConfig cluster: spec.policy.mode: "off" is not known: write enforce or audit`},
}

func TestBadDocumentsAreRefused(t *testing.T) {
	for _, c := range badDocuments {
		t.Run(c.name, func(t *testing.T) {
			docs, err := Parse([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			_, err = DecodeAll(docs)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			checkProblems(t, err)
		})
	}
}

func TestBadStreamsAreRefused(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"duplicate key", "kind: Node\nspec:\n  address: 192.0.2.1\n  address: 192.0.2.2\n", "line 4: address is also on line 3: write the key once"},
		{"duplicate key in JSON", `{"kind": "Node", "kind": "Pool"}`, "line 1: kind is also on line 1: write the key once"},
		{"duplicate key in a list", "kind: List\nitems:\n- a: 1\n  a: 2\n", "line 4: a is also on line 3: write the key once"},
		{"merge key", "a: &a {b: c}\nd:\n  <<: *a\n", "line 3: merge keys are not taken: write the keys out"},
		{"key that is a list", "[a]: b\n", "line 1: a key is a mapping or list: write a word"},
		{"infinity", "a: .inf\n", "line 1: .inf is no number here: write digits, or a word in quotes"},
		{"too deep", strings.Repeat("[", 70) + strings.Repeat("]", 70), "line 1: it is nested deeper than 64: no object is"},
		{"alias of itself", "a: &a [*a]\n", "line 1: it is nested deeper than 64: no object is"},
		{"aliases", bomb(), "line 1: aliases make too much of it: write out what they stand for"},
		{"aliases of a long word", "a: &a " + strings.Repeat("x", 1000) + "\nb: [" + strings.Repeat("*a,", 900) + "]", "line 1: aliases make too much of it: write out what they stand for"},
		{"aliases in many documents", strings.Repeat("---\n{a: &a [1,1,1,1,1,1,1,1,1,1], b: &b [*a,*a,*a,*a,*a,*a,*a,*a], c: [*b,*b,*b,*b,*b,*b,*b,*b]}\n", 200), "line 208: aliases make too much of it: write out what they stand for"},
		{"too many values", "[" + strings.Repeat("1,", maxValues) + "]", "line 1: the object is larger than 1048576 bytes or 262144 values: divide it"},
		{"too large", "a: \"" + strings.Repeat("x", MaxObjectBytes) + "\"", "line 1: the object is larger than 1048576 bytes or 262144 values: divide it"},
		{"too large a JSON", "[" + strings.Repeat("'\"',", maxValues-1) + "]", "line 1: the object is larger than 1048576 bytes or 262144 values: divide it"},
		{"too large a stream", strings.Repeat(" ", MaxStreamBytes+1), "line 1: 16777217 bytes are too many: keep to 16777216 at a time"},
		{"too many items", "kind: List\nitems:\n" + strings.Repeat("- a\n", MaxDocuments+1), "line 16387: there are more than 16384 objects: hand the rest in separately"},
		{"too many of nothing", strings.Repeat("---\n", 2*MaxDocuments), "line 16385: there are more than 16384 objects: hand the rest in separately"},
		{"too many", strings.Repeat("--- a\n", MaxDocuments+1), "line 16385: there are more than 16384 objects: hand the rest in separately"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse([]byte(c.doc)); err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// bomb is little that becomes much.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	return b.String()
}

func TestBrokenYAMLNamesTheLine(t *testing.T) {
	for _, doc := range []string{"kind: Node\n  spec: {\n", "a: \"", "\xff\xfe\xfd", "a: *nowhere\n", "{"} {
		_, err := Parse([]byte(doc))
		if err == nil || !strings.HasPrefix(err.Error(), "line ") && !strings.HasPrefix(err.Error(), "document: ") {
			t.Errorf("%q: got %v", doc, err)
		}
	}
}

func TestParseCutsStreamsApart(t *testing.T) {
	docs, err := Parse([]byte(`# nothing
---
---
kind: a
...
---
apiVersion: v1
kind: List
items:
- kind: b
- {kind: c, n: 12345678901234567890, f: 1.50, x: 0x10, t: 2026-01-02, y: yes, no: null}
---
{"kind": "d"}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range docs {
		got = append(got, fmt.Sprintf("%d %s", d.Line, d.JSON()))
	}
	want := []string{
		`4 {"kind":"a"}`,
		`10 {"kind":"b"}`,
		`11 {"f":1.50,"kind":"c","n":12345678901234567890,"no":null,"t":"2026-01-02","x":16,"y":"yes"}`,
		`13 {"kind":"d"}`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Nobody reads a hundred refusals.
func TestProblemsAreBounded(t *testing.T) {
	docs, err := Parse([]byte(strings.Repeat("--- {kind: Node}\n", 50)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = DecodeAll(docs)
	var ps control.Problems
	if !errors.As(err, &ps) || len(ps) != maxProblems {
		t.Errorf("got %v", err)
	}
	_, err = DecodeAll(docs[:3])
	if !errors.As(err, &ps) || len(ps) != 3 || ps[2].Field != "line 3: Node: apiVersion" {
		t.Errorf("got %v", err)
	}
}

// What is too much for one object is refused before it costs anything.
func TestBoundsOfObjects(t *testing.T) {
	many := func(n int, one string) string { return "[" + strings.Repeat(one+",", n) + "]" }
	for _, c := range []struct{ name, doc, want string }{
		{"rules", in(policyDoc, `{ingress: `+many(1025, "{}")+`}`), "NetworkPolicy default/web: spec.ingress: 1025 rules are too many: keep to 1024: a rule takes many peers and ports"},
		{"egress rules", in(policyDoc, `{egress: `+many(1025, "{}")+`}`), "NetworkPolicy default/web: spec.egress: 1025 rules are too many: keep to 1024: a rule takes many peers and ports"},
		{"peers", in(policyDoc, `{ingress: [{from: `+many(1025, "{podSelector: {}}")+`}]}`), "NetworkPolicy default/web: spec.ingress[0].from: 1025 peers are too many: keep to 1024"},
		{"ports", in(policyDoc, `{ingress: [{ports: `+many(1025, "{}")+`}]}`), "NetworkPolicy default/web: spec.ingress[0].ports: 1025 ports are too many: keep to 1024"},
		{"exceptions", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: ` + many(1025, "10.1.0.0/16") + `}}`), "NetworkPolicy default/web: spec.ingress[0].from[0].ipBlock.except: 1025 exceptions are too many: keep to 1024"},
		{"blocks", in(policyDoc, `{ingress: `+many(9, `{from: `+many(1024, "{ipBlock: {cidr: 10.1.0.0/16}}")+`}`)+`}`), "NetworkPolicy default/web: spec: 9216 blocks and exceptions are too many: keep to 8192, by aggregating them"},
		{"expressions", in(policyDoc, `{podSelector: {matchExpressions: `+many(257, "{key: a, operator: Exists}")+`}}`), "NetworkPolicy default/web: spec.podSelector.matchExpressions: 257 expressions are too many: keep to 256"},
		{"values", in(policyDoc, `{podSelector: {matchExpressions: [{key: a, operator: In, values: `+many(257, "a")+`}]}}`), "NetworkPolicy default/web: spec.podSelector.matchExpressions[0].values: 257 values are too many: keep to 256"},
		{"node CIDRs", in(nodeDoc, `{address: 192.0.2.1, nodeCIDRs: `+many(65, "10.0.0.0/24")+`}`), "Node node1: spec.nodeCIDRs: 65 are too many: keep to 64, by aggregating them"},
		{"pool CIDRs", in(poolDoc, `{maskSize: 24, cidrs: `+many(1025, "10.0.0.0/24")+`}`), "Pool main: spec.cidrs: 1025 are too many: keep to 1024, by aggregating them"},
		{"named ports", in(endpointDoc, `{node: node1, ports: `+many(65, "{name: a, port: 1}")+`}`), "Endpoint shop/cart-0: spec.ports: 65 ports are too many: keep to 64"},
		{"service ports", in(serviceDoc, `{address: 10.96.0.1, ports: `+many(1025, "{port: 1}")+`}`), "Service default/api: spec.ports: 1025 ports are too many: keep to 1024"},
		{"redirect ports", in(redirectDoc, `{redirectFrontend: {addressMatcher: {ip: 169.254.169.254, toPorts: `+many(65, `{port: "80", protocol: TCP}`)+`}}, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "80", protocol: TCP}]}}`), "LocalRedirectPolicy kube-system/dns: spec.redirectFrontend.addressMatcher.toPorts: 65 ports are too many: keep to 64"},
		{"description", in(redirectDoc, `{description: `+strings.Repeat("x", 1025)+`, redirectFrontend: {serviceMatcher: {serviceName: dns, namespace: kube-system}}, redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: "53", protocol: UDP}]}}`), "LocalRedirectPolicy kube-system/dns: spec.description: 1025 bytes are too many: keep to 1024"},
		{"masquerade rules", in(masqDoc, `{rules: `+many(1025, "{name: a, action: drop}")+`}`), "Masquerade cluster: spec.rules: 1025 rules are too many: keep to 1024: a rule takes many CIDRs"},
		{"labels", in(metaDoc, `{name: a, labels: {`+manyOf("a%d: b, ", 257)+`}}`), "NetworkPolicy default/a: metadata.labels: 257 labels are too many: keep to 256"},
		{"annotations", in(metaDoc, `{name: a, annotations: {a: "`+strings.Repeat("x", 256<<10)+`"}}`), "NetworkPolicy default/a: metadata.annotations: 262145 bytes are too many: keep to 262144"},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, err := Parse([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeAll(docs); err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

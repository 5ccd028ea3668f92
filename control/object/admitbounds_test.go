package object

import (
	"fmt"
	"testing"

	"ringway/control"
	"ringway/control/store"
	"ringway/nat"
)

// crowd is a view with n copies of an object, which nobody but a test would have,
// under names of their own.
type crowd struct {
	mapView
	object Object
	n      int
}

func (c crowd) List(kind, namespace string) []store.Item {
	out := c.mapView.List(kind, namespace)
	k := Key(c.object)
	if kind != k.Kind || namespace != "" && namespace != k.Namespace {
		return out
	}
	for i := range c.n {
		k.Name = fmt.Sprintf("copy%d", i)
		out = append(out, store.Item{Key: k, Object: c.object})
	}
	return out
}

func (c crowd) Count(kind string) int { return len(c.List(kind, "")) }

func TestAdmitBoundsNumbers(t *testing.T) {
	base := viewOf(t, named("Node", "node1", `{address: 192.0.2.1, nodeCIDRs: [10.200.0.0/16]}`))
	selector := "{matchExpressions: [{key: a, operator: In, values: [" + manyOf("v%d, ", 240) + "]}]}"
	wordy := func(ip string) Object {
		return parseOne(t, fmt.Sprintf(`{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: a}, spec: {redirectFrontend: {addressMatcher: {ip: %s, toPorts: [{port: "80", protocol: TCP}]}}, redirectBackend: {localEndpointSelector: %s, toPorts: [{port: "80", protocol: TCP}]}}}`, ip, selector))
	}
	service := func(address string, ports int) Object {
		return parseOne(t, fmt.Sprintf(`{apiVersion: ringway.io/v1, kind: Service, metadata: {name: a}, spec: {address: %s, ports: [%s]}}`, address, manyPorts(ports)))
	}
	for _, c := range []struct {
		name   string
		filler Object
		n      int
		o      Object
		want   string
	}{
		{"nodes", parseOne(t, named("Node", "n", `{address: 192.0.2.2, nodeCIDRs: [10.201.0.0/24]}`)), control.MaxNodes - 1,
			parseOne(t, named("Node", "last", `{address: 192.0.2.3, nodeCIDRs: [10.202.0.0/24]}`)), "Node last: metadata.name: there are 16384 nodes already: delete one that is gone"},
		{"endpoints", parseOne(t, inShop("Endpoint", "e", `{node: node1, address: 10.200.0.2}`)), control.MaxPolicyEndpoints,
			parseOne(t, inShop("Endpoint", "last", `{node: node1, address: 10.200.0.3}`)), "Endpoint shop/last: metadata.name: there are 262144 endpoints already: delete some that are gone"},
		{"redirects", parseOne(t, redirectOf("r", `{addressMatcher: {ip: 198.51.100.1, toPorts: [{port: "80", protocol: TCP}]}}`)), nat.MaxRedirects,
			parseOne(t, redirectOf("last", `{addressMatcher: {ip: 198.51.100.2, toPorts: [{port: "80", protocol: TCP}]}}`)), "LocalRedirectPolicy kube-system/last: metadata.name: there are 1024 redirects already: delete one that is not needed"},
		{"words of selectors", wordy("198.51.100.1"), 67, wordy("198.51.100.2"),
			"LocalRedirectPolicy default/a: spec.redirectBackend.localEndpointSelector: all redirects together would have 16388 labels and values of selectors: keep to 16384"},
		{"services", service("198.51.100.1", 1), control.MaxServices, service("198.51.100.2", 1),
			"Service default/a: spec: there would be 65537 services: keep to 65536"},
		{"ports of services", service("198.51.100.1", 1024), 128, service("198.51.100.2", 1),
			"Service default/a: spec: there would be 131073 ports of services: keep to 131072"},
		{"policies", parseOne(t, in(policyDoc, `{podSelector: {}}`)), maxPolicies, parseOne(t, in(policyDoc, `{podSelector: {}}`)),
			"NetworkPolicy default/web: metadata.name: there are 65536 policies already: delete one that is not needed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := crowd{base, c.filler, c.n}
			if err := Admit(v, c.o); err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			v.n--
			if err := Admit(v, c.o); err != nil {
				t.Errorf("one less: %v", err)
			}
		})
	}
}

func manyPorts(n int) string {
	out := ""
	for i := range n {
		out += fmt.Sprintf("{name: p%d, port: %d}, ", i, i+1)
	}
	return out
}

func manyOf(format string, n int) string {
	out := ""
	for i := range n {
		out += fmt.Sprintf(format, i)
	}
	return out
}

package object

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// parseOne is the one object of a stream.
func parseOne(t *testing.T, text string) Object {
	t.Helper()
	docs, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	all, err := DecodeAll(docs)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("there are %d objects", len(all))
	}
	return all[0]
}

func canonical(t *testing.T, o Object) []byte {
	t.Helper()
	out, err := Canonical(o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What is kept of the situations that NetworkPolicies are written for.
func TestNetworkPolicyGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/networkpolicy/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o := parseOne(t, string(text))
			checkRoundTrips(t, o)
			got := append(canonical(t, o), '\n')
			golden := strings.TrimSuffix(file, ".yaml") + ".json"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got  %swant %s", got, want)
			}
		})
	}
}

// checkRoundTrips: what is kept and what people get to see say the same as o.
func checkRoundTrips(t *testing.T, o Object) {
	t.Helper()
	want := canonical(t, o)
	kept, err := DecodeStored(Key(o), want)
	if err != nil {
		t.Fatal(err)
	}
	if got := canonical(t, kept.(Object)); !bytes.Equal(got, want) {
		t.Errorf("kept\ngot  %s\nwant %s", got, want)
	}
	shown, err := Render(o, 42)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{want, shown} {
		again := parseOne(t, string(text))
		if got := canonical(t, again); !bytes.Equal(got, want) {
			t.Errorf("read again\ngot  %s\nwant %s", got, want)
		}
	}
	if n, ok := Revision(parseOne(t, string(shown))); n != 42 || !ok {
		t.Errorf("revision %d, %v", n, ok)
	}
}

// One of each kind, with all its fields.
var everyKind = []string{
	`{apiVersion: ringway.io/v1, kind: Node, metadata: {name: node1, labels: {zone: a}, annotations: {note: "<&>"}}, spec: {address: 192.0.2.1, nodeCIDRs: [10.200.1.0/24], pool: main, vtepMAC: "02:52:c0:00:02:01"}}`,
	`{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: main}, spec: {cidrs: [10.200.0.0/16, 10.202.0.0/16], maskSize: 24, disabled: true}}`,
	`{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {stage: production}}, spec: {finalizers: [kubernetes]}}`,
	`{apiVersion: ringway.io/v1, kind: Endpoint, metadata: {name: cart-0, namespace: shop}, spec: {node: node1, address: 10.200.1.7, labels: {app: cart}, ports: [{name: http, port: 8080}, {name: dns, protocol: UDP, port: 53}]}}`,
	`{apiVersion: ringway.io/v1, kind: Service, metadata: {name: dns, namespace: kube-system}, spec: {address: 10.96.0.10, ports: [{name: dns, protocol: UDP, port: 53}, {name: dns-tcp, port: 53, targetPort: 1053}], selector: {k8s-app: kube-dns}}}`,
	`{apiVersion: ringway.io/v1, kind: Service, metadata: {name: api}, spec: {address: 10.96.0.1, ports: [{port: 443}], backends: [192.0.2.1, 192.0.2.2]}}`,
	`{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: local-dns, namespace: kube-system}, spec: {redirectFrontend: {serviceMatcher: {serviceName: dns, namespace: kube-system}}, redirectBackend: {localEndpointSelector: {matchLabels: {k8s-app: cache}, matchExpressions: [{key: v, operator: In, values: [a]}]}, toPorts: [{port: "53", name: dns, protocol: UDP}, {port: "53", name: dns-tcp, protocol: TCP}]}, skipRedirectFromBackend: true, description: for all}}`,
	`{apiVersion: cilium.io/v2, kind: CiliumLocalRedirectPolicy, metadata: {name: metadata, annotations: {ringway.io/node-address: 169.254.20.10}}, spec: {redirectFrontend: {addressMatcher: {ip: 169.254.169.254, toPorts: [{port: "80", protocol: TCP}]}}, redirectBackend: {localEndpointSelector: {}, toPorts: [{port: "8080", protocol: TCP}]}}}`,
	`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web}, spec: {podSelector: {}}}`,
	`{apiVersion: ringway.io/v1, kind: Masquerade, metadata: {name: cluster}, spec: {enabled: false, nativeRoutingCIDRs: [10.0.0.0/8], nonMasqueradeCIDRs: [192.168.0.0/16], rules: [{name: a, sources: [10.200.0.0/16], destinations: [198.51.100.0/24], uplink: eth0, action: snat, addresses: [192.0.2.77], ports: 1024-2047}, {name: b, action: drop}], strictEim: true, masqLinkLocal: true}}`,
	`{apiVersion: ringway.io/v1, kind: RoutingConfig, metadata: {name: cluster}, spec: {routing: hybrid, vxlan: {vni: 5, port: 4789, inheritDscp: true, udpChecksum: true, strictFlags: true}, mssClamp: true, policy: {mode: audit, policeHost: true}}}`,
}

func TestRoundTrips(t *testing.T) {
	for _, text := range everyKind {
		o := parseOne(t, text)
		t.Run(Key(o).String(), func(t *testing.T) {
			checkRoundTrips(t, o)
			// What was written is there, whatever else was filled in.
			for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("{}[]:, \"", r) }) {
				if !bytes.Contains(canonical(t, o), []byte(word)) && word != "finalizers" && word != "kubernetes" && word != "spec" {
					t.Errorf("%q is lost in %s", word, canonical(t, o))
				}
			}
		})
	}
}

func TestDefaultRoutingConfigIsValid(t *testing.T) {
	checkRoundTrips(t, DefaultRoutingConfig())
}

func TestDecodeStoredRefuses(t *testing.T) {
	node := Key(parseOne(t, everyKind[0]))
	for _, c := range []struct{ kind, value, want string }{
		{"Node", `{`, "decode what is kept of Node node1: unexpected end of JSON input"},
		{"Node", `{"metadata":{"name":"node2"}}`, "decode what is kept of Node node1: it is Node node2"},
		{"Gadget", `{}`, "decode what is kept of Gadget node1: the kind is not known: was it written by a newer release?"},
		{"Identity", `{"id":300}`, "decode what is kept of Identity node1: it is 300"},
		{"Identity", `[]`, "decode what is kept of Identity node1: json: cannot unmarshal array into Go value of type object.Identity"},
	} {
		node.Kind = c.kind
		if _, err := DecodeStored(node, []byte(c.value)); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func TestIdentityRoundTrip(t *testing.T) {
	ports := []NamedPort{{"b", "TCP", 1}, {"a", "UDP", 2}, {"a", "TCP", 3}}
	e := &Endpoint{Meta: Meta{Name: "x", Namespace: "shop"}, Spec: EndpointSpec{Labels: map[string]string{"app": "x"}, Ports: ports}}
	id := e.Identity()
	id.ID = 300
	value, err := id.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":300,"namespace":"shop","labels":{"app":"x"},"ports":[{"name":"a","protocol":"TCP","port":3},{"name":"a","protocol":"UDP","port":2},{"name":"b","protocol":"TCP","port":1}]}`
	if string(value) != want {
		t.Errorf("got  %s\nwant %s", value, want)
	}
	kept, err := DecodeStored(IdentityKey(300), value)
	if err != nil || kept.(*Identity).Content() != e.Identity().Content() {
		t.Errorf("got %+v, %v", kept, err)
	}
	if ports[0].Name != "b" {
		t.Error("the ports of the endpoint were sorted in place")
	}
}

package object

import (
	"fmt"
	"reflect"
	"testing"

	"ringway/nat"
)

// An agent's redirects file and the control plane take the same manifests, and make
// the same of them.
func TestRedirectsAreReadAsFilesAre(t *testing.T) {
	const meta = "apiVersion: cilium.io/v2\nkind: CiliumLocalRedirectPolicy\nmetadata: {name: a, namespace: kube-system%s}\nspec: %s\n"
	const backend = `{localEndpointSelector: {matchLabels: {k8s-app: cache}}, toPorts: [{port: "53", name: dns, protocol: UDP}, {port: "53", name: dns-tcp, protocol: TCP}]}`
	const atNode = `{localEndpointSelector: {}, toPorts: [{port: "80", protocol: TCP}]}`
	spec := func(frontend, backend string) string {
		return fmt.Sprintf("{redirectFrontend: %s, redirectBackend: %s}", frontend, backend)
	}
	service := func(ports string) string {
		return "{serviceMatcher: {serviceName: kube-dns, namespace: kube-system" + ports + "}}"
	}
	address := func(ip, ports string) string { return "{addressMatcher: {ip: " + ip + ", toPorts: [" + ports + "]}}" }
	const web = `{port: "80", protocol: TCP}`
	const nodeAddress = `, annotations: {ringway.io/node-address: 169.254.20.10}`
	for _, c := range []struct {
		name, meta, spec string
		takes            bool
	}{
		{"a service", "", spec(service(""), backend), true},
		{"a service with ports", "", spec(service(`, toPorts: [{port: "53", name: DNS, protocol: UDP}]`), backend), true},
		{"an address", "", spec(address("169.254.169.254", web), `{localEndpointSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}, toPorts: [`+web+`]}`), true},
		{"a node address", nodeAddress, spec(address("169.254.169.254", web), atNode), true},
		{"what servers add", `, uid: x, resourceVersion: "4", creationTimestamp: null, finalizers: [], labels: {a: b}`, spec(service(""), backend), true},
		{"all options", "", "{redirectFrontend: " + service("") + ", redirectBackend: " + backend + ", skipRedirectFromBackend: true, description: why}", true},
		{"nothing", "", "{}", false},
		{"both frontends", "", spec(`{serviceMatcher: {serviceName: a, namespace: kube-system}, addressMatcher: {ip: 192.0.2.1, toPorts: [`+web+`]}}`, backend), false},
		{"IPv6", "", spec(address(`"2001:db8::1"`, web), atNode), false},
		{"loopback", "", spec(address("127.0.0.1", web), backend), false},
		{"port out of range", "", spec(address("192.0.2.1", `{port: "65536", protocol: TCP}`), backend), false},
		{"no port", "", spec(address("192.0.2.1", `{protocol: TCP}`), backend), false},
		{"port as a number", "", spec(address("192.0.2.1", `{port: 80, protocol: TCP}`), backend), false},
		{"port twice", "", spec(address("192.0.2.1", web+", "+web), backend), false},
		{"protocol", "", spec(address("192.0.2.1", `{port: "80", protocol: SCTP}`), backend), false},
		{"protocol in lower case", "", spec(address("192.0.2.1", `{port: "80", protocol: tcp}`), backend), false},
		{"no protocol", "", spec(address("192.0.2.1", `{port: "80"}`), backend), false},
		{"names that do not match", "", spec(service(`, toPorts: [{port: "53", name: web, protocol: UDP}]`), backend), false},
		{"selector of everybody", "", spec(service(""), `{localEndpointSelector: {}, toPorts: [`+web+`]}`), false},
		{"selector beside a node address", nodeAddress, spec(address("192.0.2.1", web), `{localEndpointSelector: {matchLabels: {a: b}}, toPorts: [`+web+`]}`), false},
		{"empty node address", `, annotations: {ringway.io/node-address: ""}`, spec(address("192.0.2.1", web), backend), false},
		{"annotation misspelt", `, annotations: {ringway.io/nodeaddress: 192.0.2.1}`, spec(service(""), backend), false},
		{"label key of Cilium", "", spec(service(""), `{localEndpointSelector: {matchLabels: {"k8s:app": a}}, toPorts: [`+web+`]}`), false},
		{"unknown field", "", "{redirectFrontend: " + service("") + ", redirectBackend: " + backend + ", priority: 1}", false},
		{"operator", "", spec(service(""), `{localEndpointSelector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}, toPorts: [`+web+`]}`), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := fmt.Sprintf(meta, c.meta, c.spec)
			want, fileErr := nat.ParseRedirects([]byte(doc), "")
			docs, err := Parse([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			o, err := Decode(docs[0])
			if (fileErr == nil) != c.takes || (err == nil) != c.takes {
				t.Fatalf("as a file: %v\nhere: %v", fileErr, err)
			}
			if !c.takes {
				return
			}
			got := o.(*LocalRedirectPolicy).Redirect()
			want[0].From = ""
			if !reflect.DeepEqual(got, want[0]) {
				t.Errorf("got  %+v\nwant %+v", got, want[0])
			}
		})
	}
}

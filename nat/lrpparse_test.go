package nat

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"ringway/packet"
)

// nodeLocalDNS is what sends the cluster's DNS to the cache of the node.
const nodeLocalDNS = `apiVersion: "cilium.io/v2"
kind: CiliumLocalRedirectPolicy
metadata:
  name: "nodelocaldns"
  namespace: kube-system
spec:
  redirectFrontend:
    serviceMatcher:
      serviceName: kube-dns
      namespace: kube-system
  redirectBackend:
    localEndpointSelector:
      matchLabels:
        k8s-app: node-local-dns
    toPorts:
      - port: "53"
        name: dns
        protocol: UDP
      - port: "53"
        name: dns-tcp
        protocol: TCP
`

// metadataProxy has every field that a policy can have.
const metadataProxy = `# What asks the cloud's metadata gets a proxy.
apiVersion: cilium.io/v2
kind: CiliumLocalRedirectPolicy
metadata:
  name: metadata
  annotations: {example.com/owner: net}
  labels: {a: b}
  uid: 0b1e
  generation: 3
  creationTimestamp: 2025-01-02T03:04:05Z
spec:
  description: the proxy
  skipRedirectFromBackend: true
  redirectFrontend:
    addressMatcher:
      ip: 169.254.169.254
      toPorts:
      - {port: "80", name: HTTP, protocol: TCP}
      - {port: "443", name: https, protocol: TCP}
  redirectBackend:
    localEndpointSelector:
      matchExpressions:
      - {key: app, operator: In, values: [proxy, proxy2]}
      - {key: old, operator: DoesNotExist}
    toPorts:
    - {port: "8443", name: https, protocol: TCP}
    - {port: "8080", name: http, protocol: TCP}
    - {port: "9090", name: metrics, protocol: TCP}
status: {ok: true}
`

// nodeAddress sends DNS to what listens on the node.
const nodeAddress = `apiVersion: cilium.io/v2
kind: CiliumLocalRedirectPolicy
metadata:
  name: on-the-node
  namespace: kube-system
  annotations:
    ringway.io/node-address: 169.254.20.10
spec:
  redirectFrontend:
    serviceMatcher: {serviceName: kube-dns2, namespace: kube-system, toPorts: [{port: "53", protocol: UDP}]}
  redirectBackend: {localEndpointSelector: {}, toPorts: [{port: "8053", protocol: UDP}]}
`

func TestParseRedirects(t *testing.T) {
	const udp, tcp = packet.ProtoUDP, packet.ProtoTCP
	got, err := ParseRedirects([]byte("---\n"+nodeLocalDNS+"---\n# nothing\n---\n"+metadataProxy+"---\n"+nodeAddress), "f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []RedirectSpec{
		{
			Namespace: "kube-system", Name: "nodelocaldns", Service: "kube-dns", ServiceNamespace: "kube-system",
			BackendPorts: []RedirectPort{{"dns", udp, 53}, {"dns-tcp", tcp, 53}},
			Selector:     Selector{MatchLabels: map[string]string{"k8s-app": "node-local-dns"}},
			From:         "f.yaml: line 2",
		},
		{
			Namespace: "default", Name: "metadata", FrontendAddress: netip.MustParseAddr("169.254.169.254"),
			ToPorts:      []RedirectPort{{"http", tcp, 80}, {"https", tcp, 443}},
			BackendPorts: []RedirectPort{{"https", tcp, 8443}, {"http", tcp, 8080}, {"metrics", tcp, 9090}},
			Selector:     Selector{MatchExpressions: []LabelRequirement{{"app", "In", []string{"proxy", "proxy2"}}, {"old", "DoesNotExist", nil}}},

			SkipRedirectFromBackend: true, Description: "the proxy", From: "f.yaml: line 27",
		},
		{
			Namespace: "kube-system", Name: "on-the-node", Service: "kube-dns2", ServiceNamespace: "kube-system",
			ToPorts: []RedirectPort{{"", udp, 53}}, BackendPorts: []RedirectPort{{"", udp, 8053}},
			NodeAddress: netip.MustParseAddr("169.254.20.10"), From: "f.yaml: line 56",
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, nothing := range []string{"", "---\n", "# a\n---\n---\n# b\n", "null"} {
		if got, err := ParseRedirects([]byte(nothing), ""); err != nil || len(got) != 0 {
			t.Errorf("%q: %v, %v", nothing, got, err)
		}
	}
	asJSON := `{"apiVersion": "cilium.io/v2", "kind": "CiliumLocalRedirectPolicy", "metadata": {"name": "a"}, "spec": {
		"redirectFrontend": {"addressMatcher": {"ip": "192.0.2.1", "toPorts": [{"port": "53", "protocol": "UDP"}]}},
		"redirectBackend": {"localEndpointSelector": {"matchLabels": {"a": "b"}}, "toPorts": [{"port": "53", "protocol": "UDP"}]}}}`
	if got, err := ParseRedirects([]byte(asJSON), ""); err != nil || len(got) != 1 || got[0].From != "line 1" || got[0].ID() != "default/a" {
		t.Errorf("JSON: %+v, %v", got, err)
	}
}

// edited is nodeLocalDNS with one replacement.
func edited(old, new string) string {
	if !strings.Contains(nodeLocalDNS, old) {
		return "no " + old + " in the manifest"
	}
	return strings.Replace(nodeLocalDNS, old, new, 1)
}

func TestBadRedirects(t *testing.T) {
	const dns = `      - port: "53"
        name: dns
        protocol: UDP
`
	const matcher = `    serviceMatcher:
      serviceName: kube-dns
      namespace: kube-system
`
	address := func(s string) string { return edited(matcher, "    addressMatcher: {"+s+"}\n") }
	toPorts := func(s string) string { return edited(matcher, matcher+"      toPorts: ["+s+"]\n") }
	selector := func(s string) string {
		return edited("      matchLabels:\n        k8s-app: node-local-dns\n", "      matchExpressions: ["+s+"]\n")
	}
	const unnamed = "give the ports of frontend and backend that belong together the same name"
	for _, c := range []struct{ name, doc, want string }{
		{"no YAML", "a: b: c", "line 1: mapping values are not allowed in this context: correct the YAML there"},
		{"no text", "a: \x00", "line 1: what is there is no text: write it in UTF-8"},
		{"no mapping", "- a", "line 1: document: a list is not a mapping: write key: value lines"},
		{"no version", "\nkind: CiliumLocalRedirectPolicy", "line 2: apiVersion: missing: write cilium.io/v2"},
		{"other version", edited("cilium.io/v2", "cilium.io/v3"), `line 1: apiVersion: "cilium.io/v3" is not known here: write cilium.io/v2, or take the document out`},
		{"other kind", edited("CiliumLocalRedirectPolicy", "DaemonSet"), `line 2: kind: "DaemonSet" is not known here: write CiliumLocalRedirectPolicy, or take the document out`},
		{"second document", nodeLocalDNS + "---\nkind: ConfigMap\n", "line 23: apiVersion: missing: write cilium.io/v2"},
		{"unknown field", edited("redirectBackend:", "redirectBackends:"), "line 11: spec.redirectBackends: unknown field: known here: redirectFrontend, redirectBackend, skipRedirectFromBackend, description"},
		{"misspelt field", edited("toPorts:", "toports:"), "line 15: spec.redirectBackend.toports: unknown field: write toPorts"},
		{"unknown field of a port", edited("        name: dns\n", "        name: dns\n        endPort: 54\n"), "line 18: spec.redirectBackend.toPorts[0].endPort: unknown field: known here: port, protocol, name"},
		{"key twice", edited("  namespace: kube-system\n", "  namespace: kube-system\n  name: b\n"), "line 6: metadata.name: it is also on line 4: write the key once"},
		{"merge key", edited("  namespace: kube-system\n", "  <<: {}\n"), "line 5: metadata: merge keys are not taken: write the keys out"},
		{"complex key", edited("  namespace: kube-system\n", "  ? [a]\n  : b\n"), "line 5: metadata: a list is not a key: write a word"},
		{"key of two lines", edited("  namespace: kube-system\n", "  \"a\\nb\": c\n"), `line 5: metadata."a\nb": unknown field: known here: name, namespace, annotations, labels, uid, resourceVersion, generation, creationTimestamp, managedFields, ownerReferences, finalizers`},
		{"label of two lines", edited("k8s-app:", `"a\nb":`), `line 14: spec.redirectBackend.localEndpointSelector.matchLabels."a\nb": "a\nb" is no label key: write it as in k8s-app or app.kubernetes.io/name`},
		{"port as a number", edited(`"53"`, "53"), `line 16: spec.redirectBackend.toPorts[0].port: "53" is not a string: write "53", in quotes`},
		{"port as a list", edited(`"53"`, "[53]"), "line 16: spec.redirectBackend.toPorts[0].port: a list is not a string: write a word"},
		{"ports as a mapping", nodeLocalDNS[:strings.Index(nodeLocalDNS, "    toPorts")] + "    toPorts: {port: a}\n", `line 15: spec.redirectBackend.toPorts: a mapping is not a list: write one "- " entry each`},
		{"skip as a word", nodeLocalDNS + "  skipRedirectFromBackend: yes please\n", `line 22: spec.skipRedirectFromBackend: "yes please" is not a boolean: write true or false`},
		{"our annotation misspelt", edited("metadata:\n", "metadata:\n  annotations:\n    ringway.io/nodeaddress: 1.2.3.4\n"), `line 5: metadata.annotations: "ringway.io/nodeaddress" is not known: write ringway.io/node-address`},
		{"our annotation empty", edited("metadata:\n", "metadata:\n  annotations:\n    ringway.io/node-address: ''\n"), "line 5: metadata.annotations.ringway.io/node-address: it is empty: write an address, or take it out"},

		{"no name", edited(`"nodelocaldns"`, `""`), "line 4: metadata.name: missing: give the redirect a name"},
		{"bad name", edited(`"nodelocaldns"`, "Node"), `line 4: metadata.name: "Node" is not an RFC 1123 name: use a-z, 0-9, - and ., with a letter or digit at both ends`},
		{"bad namespace", edited("kube-system\nspec", "kube.system\nspec"), `line 5: metadata.namespace: "kube.system" is not an RFC 1123 label: use a-z, 0-9 and -, at most 63, with a letter or digit at both ends` +
			"\n" + `line 10: spec.redirectFrontend.serviceMatcher.namespace: "kube-system" is not the redirect's own namespace: write kube.system, or move the redirect`},
		{"no spec", nodeLocalDNS[:strings.Index(nodeLocalDNS, "spec:")], "line 1: spec.redirectFrontend: there is none: write addressMatcher or serviceMatcher" +
			"\nline 1: spec.redirectBackend.localEndpointSelector: it selects every pod of the namespace: write matchLabels that the backends have" +
			"\n" + `line 1: spec.redirectBackend.toPorts: missing: write the backend's ports, as in [{port: "53", protocol: UDP}]`},
		{"no frontend", edited(matcher, ""), "line 7: spec.redirectFrontend: there is none: write addressMatcher or serviceMatcher"},
		{"both frontends", edited(matcher, matcher+"    addressMatcher: {}\n"), "line 7: spec.redirectFrontend: addressMatcher and serviceMatcher are both there: keep one of them"},
		{"no service", edited("      serviceName: kube-dns\n", ""), "line 8: spec.redirectFrontend.serviceMatcher.serviceName: missing: write its name"},
		{"no namespace of the service", edited("      namespace: kube-system\n", ""), "line 8: spec.redirectFrontend.serviceMatcher.namespace: missing: write its name"},
		{"another namespace", edited("      namespace: kube-system\n", "      namespace: default\n"), `line 10: spec.redirectFrontend.serviceMatcher.namespace: "default" is not the redirect's own namespace: write kube-system, or move the redirect`},

		{"no address", address(`toPorts: [{port: "53", protocol: UDP, name: dns}]`), "line 8: spec.redirectFrontend.addressMatcher.ip: missing: write it as in 169.254.20.10"},
		{"bad address", address(`ip: dns, toPorts: [{port: "53", protocol: UDP, name: dns}]`), `line 8: spec.redirectFrontend.addressMatcher.ip: "dns" is not an IP address: write it as in 169.254.20.10`},
		{"IPv6", address(`ip: "fd00::10", toPorts: [{port: "53", protocol: UDP, name: dns}]`), "line 8: spec.redirectFrontend.addressMatcher.ip: fd00::10 is IPv6, which is not carried: write it as in 169.254.20.10"},
		{"multicast", address(`ip: 224.0.0.251, toPorts: [{port: "53", protocol: UDP, name: dns}]`), "line 8: spec.redirectFrontend.addressMatcher.ip: 224.0.0.251 is a multicast address: give a unicast address that pods can send to"},
		{"loopback", address(`ip: 127.0.0.53, toPorts: [{port: "53", protocol: UDP, name: dns}]`), "line 8: spec.redirectFrontend.addressMatcher.ip: 127.0.0.53 is a loopback address: give a unicast address that pods can send to"},
		{"address without ports", address("ip: 192.0.2.1"), `line 8: spec.redirectFrontend.addressMatcher.toPorts: missing: write the ports to redirect, as in [{port: "53", protocol: UDP}]`},

		{"port 0", edited(`"53"`, `"0"`), `line 16: spec.redirectBackend.toPorts[0].port: "0" is no port: write 1 to 65535`},
		{"port too high", edited(`"53"`, `"65536"`), `line 16: spec.redirectBackend.toPorts[0].port: "65536" is no port: write 1 to 65535`},
		{"port by name", edited(`"53"`, "dns"), `line 16: spec.redirectBackend.toPorts[0].port: "dns" is no port: write 1 to 65535`},
		{"no port", edited(dns, "      - {name: dns, protocol: UDP}\n"), "line 16: spec.redirectBackend.toPorts[0].port: missing: write 1 to 65535"},
		{"no protocol", edited("        protocol: UDP\n", ""), "line 16: spec.redirectBackend.toPorts[0].protocol: missing: write TCP or UDP"},
		{"protocol in lower case", edited("UDP", "udp"), `line 18: spec.redirectBackend.toPorts[0].protocol: "udp" is not known: write TCP or UDP`},
		{"bad name of a port", edited("dns-tcp", "dns_tcp"), `line 20: spec.redirectBackend.toPorts[1].name: "dns_tcp" is no name of a port: use a-z, 0-9 and -, at most 15, with a letter among them`},
		{"no backend ports", nodeLocalDNS[:strings.Index(nodeLocalDNS, "    toPorts")], `line 11: spec.redirectBackend.toPorts: missing: write the backend's ports, as in [{port: "53", protocol: UDP}]`},
		{"a backend port without a name", edited("        name: dns\n", ""), "line 16: spec.redirectBackend.toPorts[0].name: missing where there are several ports: " + unnamed},
		{"a name twice", edited("dns-tcp", "DNS"), `line 20: spec.redirectBackend.toPorts[1].name: "dns" is also the name of entry 0: give each port a name of its own`},
		{"a frontend port without a name", toPorts(`{port: "53", protocol: UDP}`), "line 11: spec.redirectFrontend.serviceMatcher.toPorts[0].name: missing where there are several ports: " + unnamed},
		{"a frontend port that no backend has", toPorts(`{port: "53", protocol: UDP, name: domain}`), `line 11: spec.redirectFrontend.serviceMatcher.toPorts[0].name: no port of the backend is named "domain": write one of dns, dns-tcp`},
		{"names of two protocols", toPorts(`{port: "53", protocol: TCP, name: dns}`), `line 11: spec.redirectFrontend.serviceMatcher.toPorts[0].protocol: TCP is not the UDP of the backend's port "dns": write the same protocol for both`},
		{"a frontend port twice", toPorts(`{port: "53", protocol: UDP, name: dns}, {port: "053", protocol: UDP, name: dns-tcp}`), "line 11: spec.redirectFrontend.serviceMatcher.toPorts[1]: 53/UDP is also entry 0: write each port once"},
		{"single ports of two protocols", strings.Replace(nodeAddress, `"8053", protocol: UDP`, `"8053", protocol: TCP`, 1), "line 11: spec.redirectBackend.toPorts[0].protocol: TCP is not the frontend's UDP: write the same protocol for both"},

		{"no selector", edited("    localEndpointSelector:\n      matchLabels:\n        k8s-app: node-local-dns\n", ""), "line 11: spec.redirectBackend.localEndpointSelector: it selects every pod of the namespace: write matchLabels that the backends have"},
		{"an empty selector", edited("      matchLabels:\n        k8s-app: node-local-dns\n", "      matchLabels: {}\n"), "line 12: spec.redirectBackend.localEndpointSelector: it selects every pod of the namespace: write matchLabels that the backends have"},
		{"a label with a source", edited("k8s-app:", "k8s:app:"), `line 14: spec.redirectBackend.localEndpointSelector.matchLabels.k8s:app: "k8s:app" is no label key: write app`},
		{"a bad key", edited("k8s-app:", "a b:"), `line 14: spec.redirectBackend.localEndpointSelector.matchLabels.a b: "a b" is no label key: write it as in k8s-app or app.kubernetes.io/name`},
		{"a bad value", edited("node-local-dns", "-dns"), `line 14: spec.redirectBackend.localEndpointSelector.matchLabels.k8s-app: "-dns" is no label value: use at most 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at both ends`},
		{"a value that is no string", edited("node-local-dns", "true"), `line 14: spec.redirectBackend.localEndpointSelector.matchLabels.k8s-app: "true" is not a string: write "true", in quotes`},
		{"operator", selector("{key: a, operator: Like, values: [b]}"), `line 13: spec.redirectBackend.localEndpointSelector.matchExpressions[0].operator: "Like" is not known: write In, NotIn, Exists or DoesNotExist`},
		{"operator without values", selector("{key: a, operator: In}"), "line 13: spec.redirectBackend.localEndpointSelector.matchExpressions[0].values: missing: write the values that In takes, or the operator Exists or DoesNotExist"},
		{"operator with values", selector("{key: a, operator: Exists, values: [b]}"), "line 13: spec.redirectBackend.localEndpointSelector.matchExpressions[0].values: Exists takes none: take them out, or write the operator In or NotIn"},
		{"bad value of an expression", selector("{key: a, operator: In, values: [b, c/]}"), `line 13: spec.redirectBackend.localEndpointSelector.matchExpressions[0].values[1]: "c/" is no label value: use at most 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at both ends`},
		{"a selector and a node address", edited("metadata:\n", "metadata:\n  annotations: {ringway.io/node-address: 169.254.20.10}\n"), "line 13: spec.redirectBackend.localEndpointSelector: the backend is the node address already: take the selector out, or write {}"},
		{"a bad node address", strings.Replace(nodeAddress, "169.254.20.10", "127.0.0.1", 1), "line 7: metadata.annotations.ringway.io/node-address: 127.0.0.1 is a loopback address: give a unicast address that pods can send to"},

		{"the same name twice", nodeLocalDNS + "---\n" + nodeLocalDNS, "line 23: metadata.name: kube-system/nodelocaldns is also at line 1: give each redirect a name of its own"},
		{"the same service twice", nodeLocalDNS + "---\n" + edited("nodelocaldns", "b"), "line 23: spec.redirectFrontend: service kube-system/kube-dns is also redirected by kube-system/nodelocaldns at line 1: keep one of them"},
		{"the same address twice", metadataProxy + "---\n" + strings.Replace(metadataProxy, "name: metadata\n", "name: b\n", 1), "line 32: spec.redirectFrontend: 169.254.169.254:80/TCP is also redirected by default/metadata at line 2: keep one of them"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseRedirects([]byte(c.doc), "")
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s\nof   %+v", err, c.want, got)
			}
		})
	}
}

// TestRefusalsNameTheFile and are bounded.
func TestRefusalsNameTheFile(t *testing.T) {
	var doc strings.Builder
	for range 20 {
		doc.WriteString("kind: x\n---\n")
	}
	_, err := ParseRedirects([]byte(doc.String()), "dir/f.yaml")
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxLRPProblems || lines[1] != "dir/f.yaml: line 3: apiVersion: missing: write cilium.io/v2" {
		t.Errorf("got %q", lines)
	}
	if _, err := ParseRedirects([]byte("a: b: c"), "f"); err == nil || !strings.HasPrefix(err.Error(), "f: line 1: ") {
		t.Errorf("got %v", err)
	}
}

func TestManyRedirects(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.NewReplacer("nodelocaldns", fmt.Sprint("r", i), "kube-dns", fmt.Sprint("s", i)).Replace(nodeLocalDNS) + "---\n")
		}
		return b.String()
	}
	got, err := ParseRedirects([]byte(many(MaxRedirects)), "")
	if err != nil || len(got) != MaxRedirects || got[MaxRedirects-1].ServiceID() != fmt.Sprint("kube-system/s", MaxRedirects-1) {
		t.Errorf("%d redirects, %v", len(got), err)
	}
	if _, err := ParseRedirects([]byte(many(MaxRedirects+1)), ""); err == nil {
		t.Error("one more is accepted")
	}
	ports := strings.Repeat(`{port: "53", protocol: UDP, name: a},`, maxRedirectPorts+1)
	if _, err := ParseRedirects([]byte(edited("kube-system\n  redirectBackend", "kube-system\n      toPorts: ["+ports+"]\n  redirectBackend")), ""); err == nil || !strings.Contains(err.Error(), "65 entries are too many: keep to 64") {
		t.Errorf("got %v", err)
	}
}

// FuzzParseRedirects: no document brings the parser down, a refusal has lines, and
// what is accepted can be used as it is.
func FuzzParseRedirects(f *testing.F) {
	for _, doc := range []string{nodeLocalDNS, metadataProxy, nodeAddress, nodeLocalDNS + "---\n" + metadataProxy} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		specs, err := ParseRedirects(doc, "f")
		if err != nil {
			if n := strings.Count(err.Error(), "\n") + 1; n > maxLRPProblems {
				t.Fatalf("%d lines", n)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f: ") {
					t.Fatalf("%q does not name the file", line)
				}
			}
			return
		}
		for _, s := range specs {
			compiled, err := s.Selector.Compile()
			if err != nil || s.NodeAddress.IsValid() == !s.Selector.IsZero() || s.NodeAddress.IsValid() != compiled.Empty() {
				t.Fatalf("selector %+v beside %s: %v", s.Selector, s.NodeAddress, err)
			}
			if s.ByService() == s.FrontendAddress.IsValid() || len(s.BackendPorts) == 0 || s.Namespace == "" || s.Name == "" || s.From == "" {
				t.Fatalf("%+v", s)
			}
			again, problems := manifestOf(s).Spec()
			again.From = s.From
			if len(problems) > 0 || !reflect.DeepEqual(again, s) {
				t.Fatalf("%+v became %+v: %v", s, again, problems)
			}
		}
	})
}

// manifestOf is the manifest of which Spec makes s.
func manifestOf(s RedirectSpec) *RedirectManifest {
	ports := func(in []RedirectPort) []PortInfo {
		var out []PortInfo
		for _, p := range in {
			out = append(out, PortInfo{fmt.Sprint(p.Port), ProtocolName(p.Protocol), p.Name})
		}
		return out
	}
	m := &RedirectManifest{
		Namespace: s.Namespace, Name: s.Name, LocalEndpointSelector: &s.Selector, BackendPorts: ports(s.BackendPorts),
		SkipRedirectFromBackend: s.SkipRedirectFromBackend, Description: s.Description,
	}
	if s.NodeAddress.IsValid() {
		m.NodeAddress = s.NodeAddress.String()
	}
	if s.ByService() {
		m.ServiceMatcher = &ServiceMatcher{s.Service, s.ServiceNamespace, ports(s.ToPorts)}
	} else {
		m.AddressMatcher = &AddressMatcher{s.FrontendAddress.String(), ports(s.ToPorts)}
	}
	return m
}

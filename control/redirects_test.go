package control

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	pb "ringway/control/ringwayv1"
	"ringway/nat"
)

const goodRedirects = twoNodes + `
redirects:
- namespace: kube-system
  name: nodelocaldns
  redirectFrontend:
    serviceMatcher: {serviceName: kube-dns, namespace: kube-system}
  redirectBackend:
    localEndpointSelector:
      matchLabels: {k8s-app: node-local-dns}
      matchExpressions: [{key: tier, operator: NotIn, values: [old]}, {key: app, operator: Exists}]
    toPorts:
    - {port: "53", name: dns, protocol: UDP}
    - {port: 53, name: DNS-TCP, protocol: TCP}
- name: metadata
  description: the proxy
  skipRedirectFromBackend: true
  redirectFrontend:
    addressMatcher: {ip: 169.254.169.254, toPorts: [{port: 80, protocol: TCP}]}
  redirectBackend: {nodeAddress: 169.254.20.10, toPorts: [{port: 8080, protocol: TCP}]}
`

func TestValidRedirects(t *testing.T) {
	got, err := validated(goodRedirects)
	if err != nil {
		t.Fatal(err)
	}
	want := []nat.RedirectSpec{
		{
			Namespace: "kube-system", Name: "nodelocaldns", Service: "kube-dns", ServiceNamespace: "kube-system", From: "tables: redirects[0]",
			BackendPorts: []nat.RedirectPort{{Name: "dns", Protocol: 17, Port: 53}, {Name: "dns-tcp", Protocol: 6, Port: 53}},
			Selector: nat.Selector{
				MatchLabels:      map[string]string{"k8s-app": "node-local-dns"},
				MatchExpressions: []nat.LabelRequirement{{Key: "tier", Operator: "NotIn", Values: []string{"old"}}, {Key: "app", Operator: "Exists"}},
			},
		},
		{
			Namespace: "default", Name: "metadata", FrontendAddress: netip.MustParseAddr("169.254.169.254"), From: "tables: redirects[1]",
			ToPorts: []nat.RedirectPort{{Protocol: 6, Port: 80}}, BackendPorts: []nat.RedirectPort{{Protocol: 6, Port: 8080}},
			NodeAddress: netip.MustParseAddr("169.254.20.10"), SkipRedirectFromBackend: true, Description: "the proxy",
		},
	}
	if !reflect.DeepEqual(got.Redirects, want) {
		t.Errorf("got  %+v\nwant %+v", got.Redirects, want)
	}
	if again, err := Validate(TableSet(got), "node1"); err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("there and back: %v\ngot  %+v\nwant %+v", err, again, got)
	}
}

// TestBadRedirects has what is not tested in nat, where a redirect is checked for
// itself.
func TestBadRedirects(t *testing.T) {
	const backend = "redirectBackend: {localEndpointSelector: {matchLabels: {a: b}}, toPorts: [{port: 53, protocol: UDP}]}"
	const first = "redirects:\n- {name: a, redirectFrontend: {addressMatcher: {ip: 192.0.2.1, toPorts: [{port: 53, protocol: UDP}]}}, " + backend + "}\n" +
		"- {name: b, redirectFrontend: {serviceMatcher: {serviceName: s, namespace: default}}, " + backend + "}\n"
	with := func(s string) string { return first + "- {" + s + "}" }
	service := func(s string) string {
		return with("name: c, redirectFrontend: {serviceMatcher: {serviceName: " + s + ", namespace: default}}, " + backend)
	}
	address := func(s string) string {
		return with("name: c, redirectFrontend: {addressMatcher: {ip: " + s + ", toPorts: [{port: 53, protocol: UDP}]}}, " + backend)
	}
	labels := func(s string) string {
		return with("name: c, redirectFrontend: {serviceMatcher: {serviceName: c, namespace: default}}, redirectBackend: {localEndpointSelector: " + s + ", toPorts: [{port: 53, protocol: UDP}]}")
	}
	for _, c := range []struct{ section, want string }{
		{with("spec: {}"), "redirects[2].spec: unknown field: known here: namespace, name, redirectFrontend, redirectBackend, skipRedirectFromBackend, description"},
		{labels("{app: b}"), "redirects[2].redirectBackend.localEndpointSelector.app: unknown field: known here: matchLabels, matchExpressions"},
		{labels("{matchLabels: [a]}"), "redirects[2].redirectBackend.localEndpointSelector.matchLabels: a list is not a mapping: write key: value lines"},
		{labels("{matchLabels: {a: 1}}"), `redirects[2].redirectBackend.localEndpointSelector.matchLabels.a: 1 is not a string: write "1", in quotes`},
		{labels("{matchLabels: {a: }}"), "redirects[2].redirectBackend.localEndpointSelector.matchLabels.a: the entry is empty: fill it in or take it out"},
		{labels("{matchLabels: {a: b c}}"), `redirects[2].redirectBackend.localEndpointSelector.matchLabels.a: "b c" is no label value: use at most 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at both ends`},
		{labels("{}"), "redirects[2].redirectBackend.localEndpointSelector: it selects every pod of the namespace: write matchLabels that the backends have"},
		{strings.Replace(service("c"), "{name: c", "{name: a", 1), "redirects[2].name: default/a is also the name of redirects[0]: give each redirect of a namespace a name of its own"},
		{service("s"), "redirects[2].redirectFrontend: service default/s is also redirected by redirects[1]: keep one of them"},
		{address("192.0.2.1"), "redirects[2].redirectFrontend: 192.0.2.1:53/UDP is also redirected by redirects[0]: keep one of them"},
		{address("10.200.1.1"), `redirects[2].redirectFrontend.addressMatcher.ip: 10.200.1.1 is the gateway of node "node2": choose another address`},
		{address("224.0.0.1"), "redirects[2].redirectFrontend.addressMatcher.ip: 224.0.0.1 is a multicast address: give a unicast address that pods can send to"},
		{with("name: c, redirectFrontend: {addressMatcher: {ip: 192.0.2.3, toPorts: [{port: 53, protocol: UDP}]}}, " + strings.Replace(backend, "53", "65536", 1)), `redirects[2].redirectBackend.toPorts[0].port: "65536" is no port: write 1 to 65535`},
	} {
		t.Run(c.section, func(t *testing.T) { refusedWith(t, twoNodes+c.section, c.want) })
	}
	if _, err := validated(twoNodes + address("10.200.1.2")); err != nil {
		t.Errorf("a pod's address: %v", err)
	}
}

// bigRedirects has as much of everything as may be.
func bigRedirects() []*pb.Redirect {
	var all []*pb.Redirect
	for i := range nat.MaxRedirects {
		ports := func() (out []*pb.PortInfo) {
			for j := range 64 {
				out = append(out, &pb.PortInfo{Port: uint32(60000 + j), Protocol: "TCP", Name: fmt.Sprintf("p%014d", j)})
			}
			return out
		}
		r := &pb.Redirect{
			Namespace:        strings.Repeat("n", 63),
			Name:             fmt.Sprintf("r%062d", i),
			RedirectFrontend: &pb.RedirectFrontend{AddressMatcher: &pb.AddressMatcher{Ip: host32(200<<24 | 100<<16 + uint32(i)), ToPorts: ports()}},
			RedirectBackend:  &pb.RedirectBackend{LocalEndpointSelector: &pb.LabelSelector{MatchLabels: map[string]string{}}, ToPorts: ports()},
			Description:      strings.Repeat("d", 1024),
		}
		for j := range MaxSelectorWords / nat.MaxRedirects {
			r.RedirectBackend.LocalEndpointSelector.MatchLabels[fmt.Sprintf("%s/l%061d", strings.Repeat("d", 63)+strings.Repeat("."+strings.Repeat("d", 62), 3), j)] = strings.Repeat("v", 63)
		}
		all = append(all, r)
	}
	return all
}

func TestRedirectSizes(t *testing.T) {
	validate := func(redirects []*pb.Redirect) error {
		set := bigSet(1, 1)
		set.Redirects = redirects
		_, err := Validate(set, "node0")
		return err
	}
	if err := validate(bigRedirects()); err != nil {
		t.Errorf("the biggest section is refused: %v", err)
	}
	words := bigRedirects()
	words[9].RedirectBackend.LocalEndpointSelector.MatchLabels["more"] = "x"
	for want, redirects := range map[string][]*pb.Redirect{
		"redirects: 1025 redirects are too many: keep to 1024":                        make([]*pb.Redirect, nat.MaxRedirects+1),
		"redirects: 16385 labels and values of selectors are too many: keep to 16384": words,
	} {
		if err := validate(redirects); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	wrong := bigRedirects()
	for _, r := range wrong {
		r.Name = "X"
	}
	if err := validate(wrong); err == nil || strings.Count(err.Error(), "\n")+1 != maxProblems {
		t.Errorf("a section that is wrong everywhere is refused with %v", err)
	}
}

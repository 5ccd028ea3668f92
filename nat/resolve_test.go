package nat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ringway/packet"
)

func addresses(s ...string) []netip.Addr {
	out := make([]netip.Addr, len(s))
	for i := range s {
		out[i] = netip.MustParseAddr(s[i])
	}
	return out
}

const (
	tcpProto = packet.ProtoTCP
	udpProto = packet.ProtoUDP
)

// The original document's cluster DNS, its node-local cache, and the redirect
// between them.
func kubeDNS() ServiceSpec {
	return ServiceSpec{
		Namespace: "kube-system", Name: "kube-dns", Address: netip.MustParseAddr("10.96.0.10"),
		Ports: []ServicePort{
			{"dns", udpProto, 53, 53},
			{"dns-tcp", tcpProto, 53, 53},
			{"metrics", tcpProto, 9153, 9153},
		},
		Backends: addresses("10.200.1.4", "10.200.0.9"),
	}
}

func cacheRedirect() RedirectSpec {
	return RedirectSpec{
		Namespace: "kube-system", Name: "nodelocaldns",
		Service: "kube-dns", ServiceNamespace: "kube-system",
		BackendPorts: []RedirectPort{{"dns", udpProto, 53}, {"dns-tcp", tcpProto, 53}},
		Selector:     Selector{MatchLabels: map[string]string{"k8s-app": "node-local-dns"}},
	}
}

func cachePod(slot uint32, addr string) Local {
	return Local{
		Slot: slot, Addr: netip.MustParseAddr(addr), Name: fmt.Sprintf("node-local-dns-%d", slot),
		Namespace: "kube-system", Labels: map[string]string{"k8s-app": "node-local-dns", "pod-template-generation": "1"},
	}
}

func otherPod(slot uint32, addr string) Local {
	return Local{Slot: slot, Addr: netip.MustParseAddr(addr), Name: fmt.Sprintf("web-%d", slot), Namespace: "kube-system", Labels: map[string]string{"app": "web"}}
}

// describeResolutions is as get redirects shows it.
func describeResolutions(resolutions []Resolution) string {
	var out strings.Builder
	for _, r := range resolutions {
		fmt.Fprintf(&out, "%s effective=%v reason=%q\n", r.Name, r.Effective, r.Reason)
		for _, f := range r.Frontends {
			fmt.Fprintf(&out, "  %s %s ->%s", f.Address, f.Port, describeBackends(f.Backends))
			if f.Reason != "" {
				fmt.Fprintf(&out, " (%s)", f.Reason)
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

func describeBackends(backends []Backend) string {
	var out strings.Builder
	for _, b := range backends {
		fmt.Fprintf(&out, " %s:%d", fromAddr32(b.Addr), b.Port)
		if b.Slot != NoSlot {
			fmt.Fprintf(&out, "[%d %s]", b.Slot, b.Name)
		}
		if b.NodeLocal {
			out.WriteString("[node]")
		}
	}
	return out.String()
}

func TestResolveRedirects(t *testing.T) {
	change := func(f func(*RedirectSpec)) []RedirectSpec {
		s := cacheRedirect()
		f(&s)
		return []RedirectSpec{s}
	}
	single := kubeDNS()
	single.Ports = single.Ports[:1]
	nameless := kubeDNS()
	nameless.Ports = []ServicePort{{"", udpProto, 53, 53}}
	world := netip.MustParseAddr("198.51.100.53")

	cases := []struct {
		name      string
		services  []ServiceSpec // nil: kube-dns
		redirects []RedirectSpec
		locals    []Local // nil: one cache and another pod
		want      string
	}{
		{
			name:      "the original document",
			redirects: []RedirectSpec{cacheRedirect()},
			want: `kube-system/nodelocaldns effective=true reason="port names do not match: the backend has no port metrics/TCP"
  10.96.0.10 dns 53/UDP -> 10.200.0.53:53[7 node-local-dns-7]
  10.96.0.10 dns-tcp 53/TCP -> 10.200.0.53:53[7 node-local-dns-7]
  10.96.0.10 metrics 9153/TCP -> (port names do not match: the backend has no port metrics/TCP)
`,
		}, {
			name:      "several caches, in order, each once",
			redirects: change(func(s *RedirectSpec) { s.ToPorts = s.BackendPorts[:1]; s.BackendPorts = s.ToPorts }),
			locals:    []Local{cachePod(9, "10.200.0.55"), cachePod(7, "10.200.0.53"), otherPod(3, "10.200.0.3"), cachePod(8, "10.200.0.54"), cachePod(9, "10.200.0.55")},
			want: `kube-system/nodelocaldns effective=true reason=""
  10.96.0.10 dns 53/UDP -> 10.200.0.53:53[7 node-local-dns-7] 10.200.0.54:53[8 node-local-dns-8] 10.200.0.55:53[9 node-local-dns-9]
`,
		}, {
			name:      "no local backend",
			redirects: change(func(s *RedirectSpec) { s.ToPorts = s.BackendPorts }),
			locals:    []Local{otherPod(3, "10.200.0.3")},
			want: `kube-system/nodelocaldns effective=false reason="no local backend: this node has no pod of namespace kube-system with k8s-app=node-local-dns"
  10.96.0.10 dns 53/UDP -> (no local backend: this node has no pod of namespace kube-system with k8s-app=node-local-dns)
  10.96.0.10 dns-tcp 53/TCP -> (no local backend: this node has no pod of namespace kube-system with k8s-app=node-local-dns)
`,
		}, {
			name: "a backend in another namespace",
			redirects: change(func(s *RedirectSpec) {
				s.ToPorts = s.BackendPorts[:1]
				s.BackendPorts = s.ToPorts
				s.Namespace = "default"
			}),
			want: `default/nodelocaldns effective=false reason="no local backend: this node has no pod of namespace default with k8s-app=node-local-dns"
  10.96.0.10 dns 53/UDP -> (no local backend: this node has no pod of namespace default with k8s-app=node-local-dns)
`,
		}, {
			name:      "a backend whose namespace is not known",
			redirects: change(func(s *RedirectSpec) { s.ToPorts = s.BackendPorts[:1]; s.BackendPorts = s.ToPorts }),
			locals:    []Local{{Slot: 4, Addr: netip.MustParseAddr("10.200.0.4"), Name: "pod4", Labels: map[string]string{"k8s-app": "node-local-dns"}}},
			want: `kube-system/nodelocaldns effective=true reason=""
  10.96.0.10 dns 53/UDP -> 10.200.0.4:53[4 pod4]
`,
		}, {
			name: "a selector that is none",
			redirects: change(func(s *RedirectSpec) {
				s.ToPorts = s.BackendPorts[:1]
				s.BackendPorts = s.ToPorts
				s.Selector = Selector{MatchExpressions: []LabelRequirement{{Key: "a", Operator: "Like"}}}
			}),
			want: `kube-system/nodelocaldns effective=false reason="localEndpointSelector: matchExpressions: \"Like\" is no operator"
  10.96.0.10 dns 53/UDP -> (localEndpointSelector: matchExpressions: "Like" is no operator)
`,
		}, {
			name:      "an unknown service",
			redirects: change(func(s *RedirectSpec) { s.Service = "coredns" }),
			want: `kube-system/nodelocaldns effective=false reason="there is no service kube-system/coredns"
`,
		}, {
			name:      "a service of that name in another namespace",
			redirects: change(func(s *RedirectSpec) { s.ServiceNamespace = "default" }),
			want: `kube-system/nodelocaldns effective=false reason="there is no service default/kube-dns"
`,
		}, {
			name:      "a port that the service does not have",
			redirects: change(func(s *RedirectSpec) { s.ToPorts = []RedirectPort{{"dns", udpProto, 53}, {"dns-tcp", tcpProto, 54}} }),
			want: `kube-system/nodelocaldns effective=true reason="service kube-system/kube-dns has no port 54/TCP"
  10.96.0.10 dns 53/UDP -> 10.200.0.53:53[7 node-local-dns-7]
  10.96.0.10 dns-tcp 54/TCP -> (service kube-system/kube-dns has no port 54/TCP)
`,
		}, {
			name: "port names that do not match",
			redirects: change(func(s *RedirectSpec) {
				s.ToPorts = []RedirectPort{{"domain", udpProto, 53}, {"domain-tcp", tcpProto, 53}}
			}),
			want: `kube-system/nodelocaldns effective=false reason="port names do not match: the backend has no port domain/UDP; port names do not match: the backend has no port domain-tcp/TCP"
  10.96.0.10 domain 53/UDP -> (port names do not match: the backend has no port domain/UDP)
  10.96.0.10 domain-tcp 53/TCP -> (port names do not match: the backend has no port domain-tcp/TCP)
`,
		}, {
			name: "port names that match, with other protocols",
			redirects: change(func(s *RedirectSpec) {
				s.BackendPorts = []RedirectPort{{"dns", tcpProto, 53}, {"dns-tcp", udpProto, 53}}
				s.ToPorts = cacheRedirect().BackendPorts[:1]
			}),
			want: `kube-system/nodelocaldns effective=false reason="port names do not match: the backend has no port dns/UDP"
  10.96.0.10 dns 53/UDP -> (port names do not match: the backend has no port dns/UDP)
`,
		}, {
			name:      "what the wrong ports hide does not come before them",
			redirects: change(func(s *RedirectSpec) { s.ToPorts = []RedirectPort{{"dns", udpProto, 53}, {"web", tcpProto, 9153}} }),
			locals:    []Local{},
			want: `kube-system/nodelocaldns effective=false reason="no local backend: this node has no pod of namespace kube-system with k8s-app=node-local-dns; port names do not match: the backend has no port web/TCP"
  10.96.0.10 dns 53/UDP -> (no local backend: this node has no pod of namespace kube-system with k8s-app=node-local-dns)
  10.96.0.10 web 9153/TCP -> (port names do not match: the backend has no port web/TCP)
`,
		}, {
			name:      "names are compared without case",
			redirects: change(func(s *RedirectSpec) { s.ToPorts = []RedirectPort{{"DNS", udpProto, 53}} }),
			want: `kube-system/nodelocaldns effective=true reason=""
  10.96.0.10 DNS 53/UDP -> 10.200.0.53:53[7 node-local-dns-7]
`,
		}, {
			name:      "one port and one need no names",
			services:  []ServiceSpec{single},
			redirects: change(func(s *RedirectSpec) { s.BackendPorts = []RedirectPort{{"", udpProto, 1053}} }),
			want: `kube-system/nodelocaldns effective=true reason=""
  10.96.0.10 dns 53/UDP -> 10.200.0.53:1053[7 node-local-dns-7]
`,
		}, {
			name:      "one port and one of other protocols",
			services:  []ServiceSpec{single},
			redirects: change(func(s *RedirectSpec) { s.BackendPorts = s.BackendPorts[1:] }),
			want: `kube-system/nodelocaldns effective=false reason="protocols do not match: the backend has no port for UDP"
  10.96.0.10 dns 53/UDP -> (protocols do not match: the backend has no port for UDP)
`,
		}, {
			name:      "one port of a service without a name, and several of the backend",
			services:  []ServiceSpec{nameless},
			redirects: []RedirectSpec{cacheRedirect()},
			want: `kube-system/nodelocaldns effective=false reason="port names do not match: 53/UDP has no name"
  10.96.0.10 53/UDP -> (port names do not match: 53/UDP has no name)
`,
		}, {
			name: "two redirects of one service, the later one first",
			redirects: append(change(func(s *RedirectSpec) { s.Name = "second"; s.ToPorts = []RedirectPort{{"metrics", tcpProto, 9153}} }),
				change(func(s *RedirectSpec) { s.Name = "first"; s.ToPorts = s.BackendPorts[1:] })...),
			want: `kube-system/first effective=true reason=""
  10.96.0.10 dns-tcp 53/TCP -> 10.200.0.53:53[7 node-local-dns-7]
kube-system/second effective=false reason="service kube-system/kube-dns is redirected by kube-system/first"
  10.96.0.10 metrics 9153/TCP -> (service kube-system/kube-dns is redirected by kube-system/first)
`,
		}, {
			name:   "two redirects of one address, the first without a backend",
			locals: []Local{{Slot: 5, Addr: netip.MustParseAddr("10.200.0.5"), Name: "b5", Namespace: "b", Labels: map[string]string{"k8s-app": "node-local-dns"}}},
			redirects: append(change(func(s *RedirectSpec) {
				s.Namespace, s.Service, s.FrontendAddress, s.ToPorts = "a", "", world, s.BackendPorts[:1]
			}),
				change(func(s *RedirectSpec) {
					s.Namespace, s.Service, s.FrontendAddress, s.ToPorts = "b", "", world, s.BackendPorts
				})...),
			want: `a/nodelocaldns effective=false reason="no local backend: this node has no pod of namespace a with k8s-app=node-local-dns"
  198.51.100.53 dns 53/UDP -> (no local backend: this node has no pod of namespace a with k8s-app=node-local-dns)
b/nodelocaldns effective=true reason="198.51.100.53:53/UDP is redirected by a/nodelocaldns"
  198.51.100.53 dns 53/UDP -> (198.51.100.53:53/UDP is redirected by a/nodelocaldns)
  198.51.100.53 dns-tcp 53/TCP -> 10.200.0.5:53[5 b5]
`,
		}, {
			name: "a service and its address",
			redirects: append(change(func(s *RedirectSpec) { s.ToPorts = s.BackendPorts[:1] }),
				change(func(s *RedirectSpec) {
					s.Name, s.Service, s.FrontendAddress, s.ToPorts = "z", "", kubeDNS().Address, s.BackendPorts
				})...),
			want: `kube-system/nodelocaldns effective=true reason=""
  10.96.0.10 dns 53/UDP -> 10.200.0.53:53[7 node-local-dns-7]
kube-system/z effective=true reason="10.96.0.10:53/UDP is redirected by kube-system/nodelocaldns"
  10.96.0.10 dns 53/UDP -> (10.96.0.10:53/UDP is redirected by kube-system/nodelocaldns)
  10.96.0.10 dns-tcp 53/TCP -> 10.200.0.53:53[7 node-local-dns-7]
`,
		}, {
			name: "an address of the node",
			redirects: change(func(s *RedirectSpec) {
				s.ToPorts = s.BackendPorts
				s.NodeAddress = netip.MustParseAddr("169.254.20.10")
			}),
			want: `kube-system/nodelocaldns effective=true reason=""
  10.96.0.10 dns 53/UDP -> 169.254.20.10:53[node]
  10.96.0.10 dns-tcp 53/TCP -> 169.254.20.10:53[node]
`,
		}, {
			name: "an address that the node does not have",
			redirects: change(func(s *RedirectSpec) {
				s.ToPorts = s.BackendPorts[:1]
				s.NodeAddress = netip.MustParseAddr("169.254.20.11")
			}),
			want: `kube-system/nodelocaldns effective=false reason="no local backend: 169.254.20.11 is not an address of this node"
  10.96.0.10 dns 53/UDP -> (no local backend: 169.254.20.11 is not an address of this node)
`,
		}, {
			name: "an address that is no IPv4 address",
			redirects: change(func(s *RedirectSpec) {
				s.Service, s.FrontendAddress, s.ToPorts = "", netip.MustParseAddr("fd00::a"), s.BackendPorts[:1]
			}),
			want: `kube-system/nodelocaldns effective=false reason="fd00::a is not an IPv4 address"
  fd00::a dns 53/UDP -> (fd00::a is not an IPv4 address)
`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.services == nil {
				c.services = []ServiceSpec{kubeDNS()}
			}
			if c.locals == nil {
				c.locals = []Local{cachePod(7, "10.200.0.53"), otherPod(3, "10.200.0.3")}
			}
			table, got := Resolve(c.services, c.redirects, c.locals, addresses("192.168.0.100", "169.254.20.10"), NewHealthRegistry(), 0)
			if text := describeResolutions(got); text != c.want {
				t.Errorf("got\n%swant\n%s", text, c.want)
			}
			if err := agree(table, got); err != nil {
				t.Error(err)
			}
		})
	}
}

// agree checks that the table does what the resolutions say, and nothing else.
func agree(table *ServiceTable, resolutions []Resolution) error {
	redirects := 0
	for number, r := range resolutions {
		effective := 0
		for _, f := range r.Frontends {
			if (f.Reason == "") != (len(f.Backends) > 0) {
				return fmt.Errorf("%s: %+v", r.Name, f)
			}
			if f.Reason != "" {
				if !strings.Contains(r.Reason, f.Reason) {
					return fmt.Errorf("%s: reason %q lacks %q", r.Name, r.Reason, f.Reason)
				}
				continue
			}
			effective++
			at := table.Lookup(addr32(f.Address.String()), f.Port.Port, f.Port.Protocol)
			if at == nil || at.Redirect == nil || at.Redirect.Number != number || at.Redirect.Name != r.Name || !reflect.DeepEqual(at.Redirect.Local, f.Backends) {
				return fmt.Errorf("%s: %+v is %+v in the table", r.Name, f, at)
			}
			if at.IsDNS != (at.Port == 53 && at.Proto == udpProto) {
				return fmt.Errorf("%s: %+v: DNS", r.Name, at)
			}
		}
		redirects += effective
		if r.Effective != (effective > 0) || !r.Effective && r.Reason == "" || r.Spec.ID() != r.Name {
			return fmt.Errorf("%+v", r)
		}
	}
	for _, f := range table.Frontends() {
		switch {
		case f.Redirect != nil:
			redirects--
		case f.IsDNS || !f.IsService:
			return fmt.Errorf("%+v is there for nothing", f)
		}
	}
	if redirects != 0 {
		return fmt.Errorf("the table has %d redirects too few", redirects)
	}
	return nil
}

// TestResolveServices: frontends with the backends that services give them.
func TestResolveServices(t *testing.T) {
	web := ServiceSpec{
		Namespace: "default", Name: "web", Address: netip.MustParseAddr("10.96.7.7"),
		Ports:    []ServicePort{{"", tcpProto, 80, 8080}},
		Backends: addresses("192.168.0.100", "10.200.0.3", "10.200.9.9", "10.200.0.3", "fd00::1", "0.0.0.0"),
	}
	later := web
	later.Name, later.Backends = "web2", nil
	empty := ServiceSpec{Namespace: "default", Name: "empty", Address: netip.MustParseAddr("10.96.7.8"), Ports: web.Ports}
	v6 := ServiceSpec{Namespace: "default", Name: "v6", Address: netip.MustParseAddr("fd00::2"), Ports: web.Ports}
	again := kubeDNS() // refused by validation; the first counts
	again.Address = netip.MustParseAddr("10.96.7.9")
	table, _ := Resolve([]ServiceSpec{kubeDNS(), again, later, empty, web, v6}, nil, []Local{otherPod(3, "10.200.0.3")}, addresses("192.168.0.100"), NewHealthRegistry(), 0)
	var got strings.Builder
	for _, f := range table.Frontends() {
		fmt.Fprintf(&got, "%s:%d/%s %s %q ->%s\n", fromAddr32(f.Addr), f.Port, ProtocolName(f.Proto), f.Name, f.PortName, describeBackends(f.Backends))
	}
	want := `10.96.0.10:53/TCP kube-system/kube-dns "dns-tcp" -> 10.200.0.9:53 10.200.1.4:53
10.96.0.10:53/UDP kube-system/kube-dns "dns" -> 10.200.0.9:53 10.200.1.4:53
10.96.0.10:9153/TCP kube-system/kube-dns "metrics" -> 10.200.0.9:9153 10.200.1.4:9153
10.96.7.7:80/TCP default/web "" -> 10.200.0.3:8080[3 web-3] 10.200.9.9:8080 192.168.0.100:8080[node]
10.96.7.8:80/TCP default/empty "" ->
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
	if table.ServesAddress(addr32("10.96.7.9")) || !table.ServesAddress(addr32("10.96.7.8")) {
		t.Error("it does not know whose addresses are whose")
	}
}

// TestResolveNothing: an empty table is a table.
func TestResolveNothing(t *testing.T) {
	table, got := Resolve(nil, nil, nil, nil, NewHealthRegistry(), 0)
	if len(got) != 0 || table.Lookup(1, 53, udpProto) != nil || table.HasAddress(1) || len(table.Frontends()) != 0 {
		t.Errorf("%+v, %+v", table, got)
	}
}

// TestNoLoop: what a backend itself asks goes to the service, whichever address of
// the node it asks from.
func TestNoLoop(t *testing.T) {
	pods, node := cacheRedirect(), cacheRedirect()
	node.NodeAddress = netip.MustParseAddr("169.254.20.10")
	world := node
	world.Service, world.FrontendAddress, world.ToPorts = "", netip.MustParseAddr("10.96.0.10"), world.BackendPorts
	cases := []struct {
		spec       RedirectSpec
		services   []ServiceSpec
		client     string
		redirected bool
	}{
		{pods, []ServiceSpec{kubeDNS()}, "10.200.0.3", true},
		{pods, []ServiceSpec{kubeDNS()}, "192.168.0.100", true},
		{pods, []ServiceSpec{kubeDNS()}, "10.200.0.53", false},
		{pods, []ServiceSpec{kubeDNS()}, "10.200.0.54", false},
		{node, []ServiceSpec{kubeDNS()}, "10.200.0.53", true},
		{node, []ServiceSpec{kubeDNS()}, "169.254.20.10", false},
		{node, []ServiceSpec{kubeDNS()}, "192.168.0.100", false},
		{world, nil, "10.200.0.3", true},
		{world, nil, "192.168.0.100", false},
	}
	for _, c := range cases {
		for _, skip := range []bool{false, true} {
			c.spec.SkipRedirectFromBackend = skip
			locals := []Local{cachePod(7, "10.200.0.53"), cachePod(8, "10.200.0.54")}
			table, _ := Resolve(c.services, []RedirectSpec{c.spec}, locals, addresses("192.168.0.100", "169.254.20.10"), NewHealthRegistry(), 0)
			f := table.Lookup(addr32("10.96.0.10"), 53, udpProto)
			for hash := range uint64(20) {
				b, ok := f.Choose(hash, addr32(c.client))
				own, hasOwn := f.ChooseService(hash)
				if redirected := ok && b != own; redirected != c.redirected {
					t.Errorf("%s of %s (skip %v): redirected %v", c.client, c.spec.NodeAddress, skip, redirected)
				}
				if !c.redirected && (ok != hasOwn || hasOwn != (c.services != nil)) {
					t.Errorf("%s of %s: chosen %v, of the service %v", c.client, c.spec.NodeAddress, ok, hasOwn)
				}
			}
		}
	}
}

// TestHealthOutlivesTables: by address and port, as long as tables use it.
func TestHealthOutlivesTables(t *testing.T) {
	registry := NewHealthRegistry()
	now := int64(0)
	resolve := func(services []ServiceSpec, locals ...Local) *ServiceTable {
		now += 1 << 20
		table, _ := Resolve(services, []RedirectSpec{cacheRedirect()}, locals, nil, registry, now)
		return table
	}
	services := []ServiceSpec{kubeDNS()}
	health := func(table *ServiceTable, proto uint8) *Health {
		return table.Lookup(addr32("10.96.0.10"), 53, proto).Redirect.Local[0].Health
	}
	table := resolve(services, cachePod(7, "10.200.0.53"))
	h := health(table, udpProto)
	if health(table, tcpProto) != h {
		t.Error("UDP and TCP of one cache have a health each")
	}
	if s := h.Status(); !s.Healthy || s.Since != 1<<20 {
		t.Errorf("a new backend is %+v", s)
	}
	quarantine(h)
	// Another pod, another slot, a backend of a service now as well.
	services[0].Backends = addresses("10.200.0.53")
	table = resolve(services, cachePod(9, "10.200.0.53"), cachePod(8, "10.200.0.54"))
	if health(table, udpProto) != h || table.Lookup(addr32("10.96.0.10"), 53, udpProto).Backends[0].Health != h {
		t.Error("the table has forgotten that the backend is quarantined")
	}
	services[0].Backends = nil
	resolve(services, cachePod(8, "10.200.0.54"))
	if n := len(registry.known); n != 1 {
		t.Errorf("%d backends are known", n)
	}
	if s := health(resolve(services, cachePod(7, "10.200.0.53")), udpProto).Status(); !s.Healthy || s.Quarantines != 0 || s.Since != 4<<20 {
		t.Errorf("a backend that is back is %+v", s)
	}
}

// TestResolveIsDeterministic: whatever the order of what goes in, the same comes
// out, and it holds together.
func TestResolveIsDeterministic(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 9))
	effective, not := 0, 0
	for range 300 {
		services, redirects, locals, nodeAddrs := randomCluster(random)
		table, want := Resolve(services, redirects, locals, nodeAddrs, NewHealthRegistry(), 0)
		if err := agree(table, want); err != nil {
			t.Fatal(err)
		}
		for _, r := range want {
			if r.Effective {
				effective++
			} else {
				not++
			}
		}
		services, redirects = shuffled(random, services), shuffled(random, redirects)
		locals, nodeAddrs = shuffled(random, locals), shuffled(random, nodeAddrs)
		again, got := Resolve(services, redirects, locals, nodeAddrs, NewHealthRegistry(), 0)
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(again.Frontends(), table.Frontends()) {
			t.Fatalf("got\n%swant\n%s", describeResolutions(got), describeResolutions(want))
		}
	}
	if effective < 100 || not < 100 {
		t.Errorf("%d redirects had an effect, %d had none: that shows little", effective, not)
	}
}

func shuffled[T any](random *rand.Rand, in []T) []T {
	out := slices.Clone(in)
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// randomCluster has few names and addresses, so that redirects meet.
func randomCluster(random *rand.Rand) (services []ServiceSpec, redirects []RedirectSpec, locals []Local, nodeAddrs []netip.Addr) {
	addr := func(base string) netip.Addr { return fromAddr32(addr32(base) + random.Uint32N(4)) }
	namespace := func() string { return []string{"a", "a-b"}[random.IntN(2)] }
	ports := func(least int) (out []RedirectPort) {
		for _, p := range []RedirectPort{{"dns", udpProto, 53}, {"dns-tcp", tcpProto, 53}, {"web", tcpProto, 80}} {
			if random.IntN(2) == 0 || len(out) < least {
				out = append(out, p)
			}
		}
		return out
	}
	for i := range random.IntN(4) {
		s := ServiceSpec{Namespace: namespace(), Name: fmt.Sprintf("s%d", i), Address: fromAddr32(addr32("10.96.0.1") + uint32(i))}
		for _, p := range ports(1) {
			s.Ports = append(s.Ports, ServicePort{p.Name, p.Protocol, p.Port, p.Port + 8000})
		}
		for range random.IntN(4) {
			s.Backends = append(s.Backends, addr("10.200.0.2"))
		}
		services = append(services, s)
	}
	for i := range random.IntN(5) {
		r := RedirectSpec{Namespace: namespace(), Name: fmt.Sprintf("r%d", i), ToPorts: ports(0), BackendPorts: ports(1)}
		if random.IntN(2) == 0 {
			r.Service, r.ServiceNamespace = fmt.Sprintf("s%d", random.IntN(3)), r.Namespace
		} else {
			r.FrontendAddress, r.ToPorts = addr("10.96.0.1"), ports(1)
		}
		if random.IntN(3) == 0 {
			r.NodeAddress = addr("192.168.0.100")
		} else {
			r.Selector.MatchLabels = map[string]string{"app": []string{"x", "y"}[random.IntN(2)]}
		}
		redirects = append(redirects, r)
	}
	for i := range uint32(random.IntN(5)) {
		locals = append(locals, Local{
			Slot: i + 1, Addr: fromAddr32(addr32("10.200.0.2") + i), Name: fmt.Sprintf("pod%d", i), Namespace: namespace(),
			Labels: map[string]string{"app": []string{"x", "y"}[random.IntN(2)]},
		})
	}
	for range 2 {
		nodeAddrs = append(nodeAddrs, addr("192.168.0.100"))
	}
	return services, redirects, locals, nodeAddrs
}

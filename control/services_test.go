package control

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	pb "ringway/control/ringwayv1"
	"ringway/nat"
)

const goodServices = twoNodes + `
services:
- namespace: kube-system
  name: kube-dns
  address: 10.96.0.10
  ports:
  - {name: dns, protocol: UDP, port: 53}
  - {name: dns-tcp, protocol: TCP, port: 53}
  - {name: metrics, port: 9153, targetPort: 9154}
  backends: [10.200.0.5, 10.200.1.5]
- {name: kube-dns, address: 10.96.0.11, ports: [{port: 53, protocol: UDP, targetPort: 8053}], backends: [169.254.20.10]}
- {name: nobody, address: 169.254.20.11, ports: [{port: "65535"}]}
- {name: beside, address: 10.96.0.11, ports: [{port: 53}]}
`

func TestValidServices(t *testing.T) {
	got, err := validated(goodServices)
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	want := []nat.ServiceSpec{
		{
			Namespace: "kube-system", Name: "kube-dns", Address: a("10.96.0.10"), From: "tables: services[0]",
			Ports: []nat.ServicePort{
				{Name: "dns", Protocol: 17, Port: 53, TargetPort: 53}, {Name: "dns-tcp", Protocol: 6, Port: 53, TargetPort: 53},
				{Name: "metrics", Protocol: 6, Port: 9153, TargetPort: 9154},
			},
			Backends: []netip.Addr{a("10.200.0.5"), a("10.200.1.5")},
		},
		{
			Namespace: "default", Name: "kube-dns", Address: a("10.96.0.11"), From: "tables: services[1]",
			Ports: []nat.ServicePort{{Protocol: 17, Port: 53, TargetPort: 8053}}, Backends: []netip.Addr{a("169.254.20.10")},
		},
		{
			Namespace: "default", Name: "nobody", Address: a("169.254.20.11"), From: "tables: services[2]",
			Ports: []nat.ServicePort{{Protocol: 6, Port: 65535, TargetPort: 65535}},
		},
		{
			Namespace: "default", Name: "beside", Address: a("10.96.0.11"), From: "tables: services[3]",
			Ports: []nat.ServicePort{{Protocol: 6, Port: 53, TargetPort: 53}},
		},
	}
	if !reflect.DeepEqual(got.Services, want) {
		t.Errorf("got  %+v\nwant %+v", got.Services, want)
	}
	if again, err := Validate(TableSet(got), "node1"); err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("there and back: %v\ngot  %+v\nwant %+v", err, again, got)
	}
}

func TestBadServices(t *testing.T) {
	first := "services:\n- {name: a, address: 10.96.0.10, ports: [{port: 53, protocol: UDP}], backends: [10.200.0.5]}\n"
	with := func(s string) string { return first + "- {" + s + "}" }
	port := func(s string) string {
		return with("name: b, address: 10.96.0.11, ports: [{name: x, port: 1}, {" + s + "}]")
	}
	address := func(s string) string { return with("name: b, address: " + s + ", ports: [{port: 53}]") }
	backends := func(s string) string {
		return with("name: b, address: 10.96.0.11, ports: [{port: 53}], backends: [" + s + "]")
	}
	const rfc1123 = "use a-z, 0-9, - and ., with a letter or digit at both ends of each part"
	const portName = "use a-z, 0-9 and -, at most 63, with a letter or digit at both ends"
	for _, c := range []struct{ section, want string }{
		{"services: a", `services: a is not a list: write a list, [a, b] or one "- a" line each`},
		{with("service: b"), "services[1].service: unknown field: known here: namespace, name, address, ports, backends"},
		{with("address: 10.96.0.11, ports: [{port: 53}]"), "services[1].name: missing: " + rfc1123},
		{with("name: B, address: 10.96.0.11, ports: [{port: 53}]"), `services[1].name: "B" is not an RFC 1123 name: ` + rfc1123},
		{with("name: b.c, address: 10.96.0.11, ports: [{port: 53}]"), `services[1].name: "b.c" is not an RFC 1123 label: write it without dots`},
		{with("namespace: a.b, name: b, address: 10.96.0.11, ports: [{port: 53}]"), `services[1].namespace: "a.b" is not an RFC 1123 label: write it without dots`},
		{with("namespace: default, name: a, address: 10.96.0.11, ports: [{port: 53}]"), "services[1].name: default/a is also the name of services[0]: give each service of a namespace a name of its own"},
		{with("name: b, ports: [{port: 53}]"), "services[1].address: missing: give the service's IPv4 address"},
		{address("ten"), `services[1].address: "ten" is not an IP address: write it as in 192.0.2.1`},
		{address("'fd00::10'"), "services[1].address: fd00::10 is IPv6: give the service's IPv4 address"},
		{address("127.0.0.53"), "services[1].address: 127.0.0.53 is a loopback address: give a unicast address"},
		{address("224.0.0.251"), "services[1].address: 224.0.0.251 is a multicast address: give a unicast address"},
		{address("192.168.0.101"), `services[1].address: 192.168.0.101 is the address of node "node2": choose an address that nobody has`},
		{address("10.200.0.1"), `services[1].address: 10.200.0.1 is inside 10.200.0.0/24, a node CIDR of node "node1": choose an address outside of the pods' ranges`},
		{with("name: b, address: 10.96.0.11"), "services[1].ports: there is none: give the service a port, as in [{port: 53, protocol: UDP}]"},
		{port("port: 2"), "services[1].ports[1].name: missing where there are several ports: " + portName},
		{port("name: x, port: 2"), `services[1].ports[1].name: "x" is also the name of entry 0: give each port a name of its own`},
		{port("name: x_y, port: 2"), `services[1].ports[1].name: "x_y" is no name of a port: ` + portName},
		{port("name: z"), "services[1].ports[1].port: 0 is out of range: choose 1 to 65535"},
		{port("name: z, port: 65536"), "services[1].ports[1].port: 65536 is out of range: choose 1 to 65535"},
		{port("name: z, port: 2, targetPort: 65536"), "services[1].ports[1].targetPort: 65536 is out of range: choose 1 to 65535"},
		{port("name: z, port: 2, targetPort: http"), "services[1].ports[1].targetPort: http is not a whole number from 0 to 2^32-1: write digits, without quotes"},
		{port("name: z, port: 2, protocol: udp"), `services[1].ports[1].protocol: "udp" is not known: write TCP or UDP`},
		{port("name: z, port: 2, protocol: SCTP"), `services[1].ports[1].protocol: "SCTP" is not known: write TCP or UDP`},
		{port("name: z, port: 1, protocol: TCP"), "services[1].ports[1]: 10.96.0.11:1/TCP is also a port of services[1]: give each service an address or ports of its own"},
		{with("name: b, address: 10.96.0.10, ports: [{port: 53, protocol: UDP}]"), "services[1].ports[0]: 10.96.0.10:53/UDP is also a port of services[0]: give each service an address or ports of its own"},
		{backends("ten"), `services[1].backends[0]: "ten" is not an IP address: write it as in 192.0.2.1`},
		{backends("10.200.0.5, 0.0.0.0"), `services[1].backends[1]: 0.0.0.0 is a "this network" address: give the unicast address of a pod or host`},
		{backends("10.200.0.5, 10.200.0.5"), "services[1].backends[1]: 10.200.0.5 is entry 0, too: name each backend once"},
		{backends("10.96.0.10"), "services[1].backends[0]: 10.96.0.10 is the address of services[0]: name its backends instead"},
		{backends("10.96.0.11"), "services[1].backends[0]: 10.96.0.11 is the address of services[1]: name its backends instead"},
	} {
		t.Run(c.section, func(t *testing.T) { refusedWith(t, twoNodes+c.section, c.want) })
	}
}

// refusedWith: there is one problem, and it is want.
func refusedWith(t *testing.T, doc, want string) {
	t.Helper()
	_, err := validated(doc)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 1 {
		t.Errorf("%#v is not one problem", err)
	}
}

// bigServices has as much of everything as may be, and the longest of names.
func bigServices() []*pb.Service {
	var all []*pb.Service
	name := func(i int) string { return fmt.Sprintf("n%062d", i) }
	for i := range MaxServices {
		s := &pb.Service{Namespace: strings.Repeat("n", 63), Name: name(i), Address: host32(100<<24 | 100<<16 + uint32(i))}
		for j := range MaxServicePorts / MaxServices {
			s.Ports = append(s.Ports, &pb.ServicePort{Name: name(j), Protocol: "TCP", Port: uint32(60000 + j), TargetPort: 60000})
		}
		for j := range MaxServiceBackends / MaxServices {
			s.Backends = append(s.Backends, host32(200<<24|100<<16+uint32(j)))
		}
		all = append(all, s)
	}
	return all
}

func TestServiceSizes(t *testing.T) {
	validate := func(services []*pb.Service) error {
		set := bigSet(1, 1)
		set.Services = services
		_, err := Validate(set, "node0")
		return err
	}
	if err := validate(bigServices()); err != nil {
		t.Errorf("the biggest section is refused: %v", err)
	}
	one := &pb.Service{Name: "a", Address: "10.96.0.10", Ports: make([]*pb.ServicePort, maxPortsOfService+1)}
	for want, services := range map[string][]*pb.Service{
		"services: 65537 services are too many: keep to 65536":     make([]*pb.Service, MaxServices+1),
		"services: 131073 ports are too many: keep to 131072":      {{Ports: make([]*pb.ServicePort, MaxServicePorts+1)}},
		"services: 262145 backends are too many: keep to 262144":   {{Backends: make([]string, MaxServiceBackends+1)}},
		"services[0].ports: 1025 ports are too many: keep to 1024": {one},
	} {
		if err := validate(services); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	wrong := bigServices()
	for _, s := range wrong {
		s.Address = "x"
	}
	if err := validate(wrong); err == nil || strings.Count(err.Error(), "\n")+1 != maxProblems {
		t.Errorf("a section that is wrong everywhere is refused with %v", err)
	}
}

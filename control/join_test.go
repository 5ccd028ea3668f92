package control

import (
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	pb "ringway/control/ringwayv1"
)

func TestProblemsOfTheEngine(t *testing.T) {
	for text, want := range map[string]Problem{
		"nodes[0].address: 192.168.0.1 is no address of this node":                {"nodes[0].address", "192.168.0.1 is no address of this node", "see the log of the node's agent"},
		"nodes[1].nodeCidrs: endpoint \"p\" has 10.0.0.1: detach it first":        {"nodes[1].nodeCidrs", "endpoint \"p\" has 10.0.0.1", "detach it first"},
		"nodes: this node, \"n\", is not in the table set: add it, or correct it": {"nodes", "this node, \"n\", is not in the table set", "add it, or correct it"},
		"no memory":            {"set", "no memory", "see the log of the node's agent"},
		"save it: disk full":   {"set", "save it", "disk full"},
		"uplink eth0: no such": {"set", "uplink eth0", "no such"},
	} {
		if got := problemsIn(errors.New(text)); !reflect.DeepEqual(got, Problems{want}) {
			t.Errorf("%s: got %+v", text, got)
		}
	}
	ps := Problems{{"a", "b", "c"}}
	if got := problemsIn(errors.Join(ps)); !reflect.DeepEqual(got, ps) {
		t.Errorf("got %+v", got)
	}
}

func TestNamedPorts(t *testing.T) {
	var ps Problems
	if got := strings.Join(ps.namedPorts([]string{"http=80", "dns=53/UDP", "dns=53/TCP"}), " "); got != "http=80/TCP dns=53/UDP dns=53/TCP" || len(ps) != 0 {
		t.Errorf("got %s, %v", got, ps)
	}
	if got := portMessages([]string{"dns=53/UDP"}); len(got) != 1 || got[0].GetName() != "dns" || got[0].GetPort() != 53 || got[0].GetProtocol() != "UDP" {
		t.Errorf("got %v", got)
	}
	for port, want := range map[string]string{
		"":                   `"" is not NAME=PORT/PROTOCOL`,
		"http":               `"http" is not NAME=PORT/PROTOCOL`,
		"http=0":             `"http=0" is not NAME=PORT/PROTOCOL`,
		"http=65536":         `"http=65536" is not NAME=PORT/PROTOCOL`,
		"80=80":              `"80" is no port name`,
		"-x=80":              `"-x" is no port name`,
		"Http=80":            `"Http" is no port name`,
		"abcdefghijklmnop=1": `"abcdefghijklmnop" is no port name`,
		"http=80/ICMP":       `protocol "ICMP" is not known`,
	} {
		_, err := endpointRequest(&pb.AddEndpointRequest{Name: "p", Netns: "n", Ports: []string{port}})
		if err == nil || !strings.HasPrefix(err.Error(), "ports[0]: "+want) {
			t.Errorf("%q: got %v", port, err)
		}
	}
	if _, err := endpointRequest(&pb.AddEndpointRequest{Name: "p", Netns: "n", Ports: []string{"a=1", "a=2"}}); err == nil {
		t.Error("a name is taken twice")
	}
}

func TestJoinConfig(t *testing.T) {
	good := "node: node1\nuplinks: [{device: eth0}]\ncontrollers: ['192.0.2.1:6650']\ntls: {ca: /a, cert: /b, key: /c}\n"
	c, err := ParseConfig([]byte(good))
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	if j := c.Join(); j == nil || j.Device != "eth0" || j.TLS.Key != "/c" || j.StateFile != c.StateDir+"/controller.state" {
		t.Errorf("got %+v", j)
	}
	for more, want := range map[string]string{
		"tables: /x":                   "controllers: tables is given, too: leave one of them out",
		"address: ::1":                 "address: ::1 is IPv6",
		"vtepMAC: '01:00:00:00:00:00'": "vtepMAC: 01:00:00:00:00:00 is a group address",
	} {
		c, err := ParseConfig([]byte(good + more + "\n"))
		if err == nil {
			err = c.Validate()
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", more, err, want)
		}
	}
	c.Controllers, c.TLS = []string{"192.0.2.1"}, TLSFiles{CA: "a"}
	want := `controllers[0]: "192.0.2.1" is not HOST:PORT: write it as in 192.168.0.10:6650
tls.ca: "a" is not an absolute path: start it with /
tls.cert: missing: give the PEM file; ringway pki makes one
tls.key: missing: give the PEM file; ringway pki makes one`
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestKeyedLock(t *testing.T) {
	var k keyedLock
	var group sync.WaitGroup
	counts := map[string]*int{"a": new(int), "b": new(int)}
	for range 100 {
		for name, n := range counts {
			group.Go(func() {
				defer k.lock(name)()
				*n++
			})
		}
	}
	group.Wait()
	if *counts["a"] != 100 || *counts["b"] != 100 || len(k.held) != 0 {
		t.Errorf("counted %d and %d, %d are held", *counts["a"], *counts["b"], len(k.held))
	}
}

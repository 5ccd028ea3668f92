package controller

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringway/dataplane"
)

// endpointNames lists what is registered, with addresses.
func (c *testController) endpointNames() string {
	list, err := c.client.Get(c.site.t.Context(), "Endpoint", "", "")
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, o := range list {
		out = append(out, o.GetKey().GetNamespace()+"/"+o.GetKey().GetName())
	}
	return strings.Join(out, " ")
}

// TestReconcile: pods that came and went while no controller was there are made up
// for.
func TestReconcile(t *testing.T) {
	s := newSite(t)
	cfg := s.config("c1")
	c := s.controller(cfg)
	c.apply(poolDoc)
	e := &engine{}
	a := s.agent("node1", nodeAddress(0), e, c.address)
	eventually(t, 10*time.Second, "a set", func() error {
		if e.version() == 0 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	for _, name := range []string{"stays", "goes", "ns/pod"} {
		if _, err := a.add(name, map[string]string{"app": name[:2]}); err != nil {
			t.Fatal(err)
		}
	}
	c.Stop()
	eventually(t, 5*time.Second, "being alone", func() error {
		st, err := a.client.Status(t.Context())
		if err == nil && st.GetController().GetConnected() {
			err = fmt.Errorf("it says that it is connected")
		}
		return err
	})
	if err := a.client.DeleteEndpoint(t.Context(), "goes"); err != nil {
		t.Errorf("detaching without a controller: %v", err)
	}
	if _, err := a.add("stays", map[string]string{"app": "st"}); err != nil {
		t.Errorf("attaching again what is there: %v", err)
	}
	for _, name := range []string{"new", "stays"} { // the second one with other labels
		if _, err := a.add(name, nil); err == nil || !strings.Contains(err.Error(), "no controller is connected, and one has to give new endpoints their address and identity") {
			t.Errorf("attaching %s: %v", name, err)
		}
	}
	// One of which the controller knows nothing, as when etcd was restored.
	if _, err := e.AddEndpoint(t.Context(), dataplane.EndpointRequest{Name: "lost", Address: mustAddr(t, e, 77)}); err != nil {
		t.Fatal(err)
	}
	c = s.controller(cfg)
	eventually(t, 10*time.Second, "the registrations", func() error {
		if got := c.endpointNames(); got != "default/lost default/stays ns/pod" {
			return fmt.Errorf("there are %s", got)
		}
		return nil
	})
	if st, err := a.client.Status(t.Context()); err != nil || !st.GetHealthy() {
		t.Errorf("status %v, %v", st.GetReasons(), err)
	}
}

// TestStartWithoutController: an agent that finds no controller begins with the
// last good set.
func TestStartWithoutController(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	c.apply(poolDoc)
	a := s.agent("node1", nodeAddress(0), &engine{}, c.address)
	v := c.apply(denyDoc("p", "web", 80)).GetVersion()
	atVersion(t, 10*time.Second, v, a)
	time.Sleep(1200 * time.Millisecond) // the set is written once a second
	c.Stop()
	a.Stop()
	again := s.agent("node1", nodeAddress(0), &engine{}, c.address)
	eventually(t, 10*time.Second, "the status", func() error {
		st, err := again.client.Status(t.Context())
		if err == nil && (!st.GetHealthy() || st.GetController().GetConnected()) {
			err = fmt.Errorf("status %v", st)
		}
		return err
	})
	if got := again.engine.version(); got < v-1 || got == 0 {
		t.Errorf("version %d is in force, %d was", got, v)
	}
}

// mustAddr is an address of the node's first CIDR.
func mustAddr(t *testing.T, e *engine, n byte) netip.Addr {
	t.Helper()
	nodes := e.tables().Nodes
	if len(nodes) == 0 {
		t.Fatal("there is no node")
	}
	b := nodes[0].NodeCIDRs[0].Addr().As4()
	b[3] += n
	return netip.AddrFrom4(b)
}

package controller

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"ringway/control"
	"ringway/control/pki"
)

// TestOneMachine is a cluster of one controller with all that it needs: nodes join,
// get CIDRs and pods, and keep them when all have been started again.
func TestOneMachine(t *testing.T) {
	s := newSite(t)
	cfg := s.config("c1")
	c := s.controller(cfg)
	c.apply(poolDoc)
	agents := s.agents(3, c.address)
	cidrs := map[string]string{}
	for _, a := range agents {
		eventually(t, 10*time.Second, a.name, func() error {
			n := a.engine.tables().Nodes
			if len(n) != 3 {
				return fmt.Errorf("it knows %d nodes", len(n))
			}
			return nil
		})
		for _, n := range a.engine.tables().Nodes {
			cidrs[n.Name] = n.NodeCIDRs[0].String()
		}
	}
	if len(cidrs) != 3 || cidrs["node1"] == cidrs["node2"] || cidrs["node1"] == cidrs["node3"] || cidrs["node2"] == cidrs["node3"] {
		t.Fatalf("node CIDRs are %v", cidrs)
	}
	e, err := agents[0].add("web", map[string]string{"app": "web"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := agents[0].add("web", map[string]string{"app": "web"}); err != nil || again.GetAddress() != e.GetAddress() {
		t.Errorf("adding it again gives %v, %v", again, err)
	}
	v := c.apply(denyDoc("only-80", "web", 80)).GetVersion()
	atVersion(t, 5*time.Second, v, agents...)
	tables := agents[0].engine.tables()
	if len(tables.Policy.Policies) != 1 || len(tables.Policy.Endpoints) != 1 || tables.Policy.Endpoints[0].Address.String() != e.GetAddress() {
		t.Errorf("node1 has policy %+v", tables.Policy)
	}
	if p := agents[1].engine.tables().Policy; len(p.Policies) != 0 || len(p.Endpoints) != 1 {
		t.Errorf("node2 has policy %+v", p)
	}
	st, err := agents[0].client.Status(t.Context())
	if err != nil || !st.GetController().GetConnected() || st.GetController().GetCluster() == "" {
		t.Errorf("status %v, %v", st.GetController(), err)
	}

	c.Stop()
	for _, a := range agents {
		a.Stop()
	}
	c = s.controller(cfg)
	for i, a := range agents {
		agents[i] = s.agent(a.name, nodeAddress(i), &engine{endpoints: a.engine.endpoints}, c.address)
	}
	for _, a := range agents {
		eventually(t, 10*time.Second, a.name, func() error {
			for _, n := range a.engine.tables().Nodes {
				if cidrs[n.Name] != n.NodeCIDRs[0].String() {
					return fmt.Errorf("%s has %v, had %s", n.Name, n.NodeCIDRs, cidrs[n.Name])
				}
			}
			if a.engine.version() < v {
				return fmt.Errorf("version %d", a.engine.version())
			}
			return nil
		})
	}
	if err := agents[0].client.DeleteEndpoint(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "no endpoint", func() error {
		left, err := c.client.Get(t.Context(), "Endpoint", "", "")
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("there is %v", left)
		}
		return err
	})
}

// TestWithoutPool: what to do is said to the node, and to who asks for its status.
func TestWithoutPool(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	a := s.agents(1, c.address)[0]
	eventually(t, 10*time.Second, "the reason", func() error {
		st, err := a.client.Status(t.Context())
		if err != nil {
			return err
		}
		if got := st.GetController().GetError(); !strings.Contains(got, "there is no Pool to take one from: apply a Pool") {
			return errors.New(got)
		}
		return nil
	})
	if _, err := a.add("p", nil); err == nil || !strings.Contains(err.Error(), "no controller is connected") {
		t.Errorf("adding a pod without a controller: %v", err)
	}
	v := c.apply(poolDoc).GetVersion()
	atVersion(t, 10*time.Second, v+1, a)
}

// TestRefusedByNode: a set that only the node can refuse shows, changes nothing and
// does not come again unchanged.
func TestRefusedByNode(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	c.apply(poolDoc)
	agents := s.agents(2, c.address)
	atVersion(t, 10*time.Second, c.apply(denyDoc("p", "web", 1)).GetVersion(), agents...)
	before := agents[0].engine.tables()

	agents[0].engine.setRefuse(errors.New("nodes[0].address: 192.168.0.1 is no address of this node"))
	v := c.apply(`{apiVersion: ringway.io/v1, kind: RoutingConfig, metadata: {name: cluster}, spec: {routing: direct}}`).GetVersion()
	atVersion(t, 5*time.Second, v, agents[1])
	eventually(t, 5*time.Second, "the refusal", func() error {
		n := c.states()["node1"]
		if n.GetRefused() != v || len(n.GetProblems()) != 1 {
			return fmt.Errorf("state %v", n)
		}
		return nil
	})
	if p := c.states()["node1"].GetProblems()[0]; p.GetField() != "nodes[0].address" || p.GetReason() != "192.168.0.1 is no address of this node" {
		t.Errorf("the problem is %v", p)
	}
	if now := agents[0].engine.tables(); !reflect.DeepEqual(now, before) {
		t.Errorf("a refused set changed what is in force: %+v", now)
	}
	agents[0].engine.setRefuse(nil)
	v = c.apply(`{apiVersion: ringway.io/v1, kind: RoutingConfig, metadata: {name: cluster}, spec: {routing: overlay}}`).GetVersion()
	atVersion(t, 5*time.Second, v, agents...)
	eventually(t, 5*time.Second, "no refusal", func() error {
		if n := c.states()["node1"]; n.GetRefused() != 0 || n.GetVersion() < v {
			return fmt.Errorf("state %v", n)
		}
		return nil
	})
	onlyRises(t, agents...)
}

// TestOthersCertificates: a node is who its certificate says, and may not do what
// people do; viewers may look only.
func TestOthersCertificates(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	viewer := s.client(c.address, s.files(pki.RoleViewer, "v"))
	if _, err := viewer.Status(t.Context()); err != nil {
		t.Errorf("a viewer cannot look: %v", err)
	}
	for role, client := range map[string]*control.ObjectClient{"viewer": viewer, "node": s.client(c.address, s.files(pki.RoleNode, "node1"))} {
		if _, err := client.Apply(t.Context(), []string{poolDoc}); err == nil || !strings.Contains(err.Error(), "the role "+role+" may not do this") {
			t.Errorf("a %s applies a pool: %v", role, err)
		}
	}
}

// TestPartition: nodes that lose their controller go on, and have what they missed
// soon after it is back.
func TestPartition(t *testing.T) {
	s := newSite(t)
	cfg := s.config("c1")
	c := s.controller(cfg)
	c.apply(poolDoc)
	agents := s.agents(3, c.address)
	atVersion(t, 10*time.Second, c.apply(denyDoc("p", "web", 1)).GetVersion(), agents...)
	c.Stop()
	eventually(t, 5*time.Second, "being alone", func() error {
		st, err := agents[0].client.Status(t.Context())
		switch {
		case err != nil:
			return err
		case st.GetController().GetConnected():
			return errors.New("it says that it is connected")
		case !st.GetHealthy():
			return fmt.Errorf("it is unhealthy: %v", st.GetReasons())
		}
		return nil
	})
	time.Sleep(5 * time.Second)
	c = s.controller(cfg)
	healed := time.Now()
	atVersion(t, 5*time.Second, c.apply(denyDoc("p", "web", 2)).GetVersion(), agents...)
	t.Logf("all have the change %s after the controller was back", time.Since(healed).Round(time.Millisecond))
	onlyRises(t, agents...)
}

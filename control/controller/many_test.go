package controller

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ringway/control"
	"ringway/control/pki"
	pb "ringway/control/ringwayv1"
	"ringway/control/store/storetest"
)

// TestTwoControllers: they serve one etcd without knowing of each other, and nodes
// have the same set from either. When one goes its nodes are with the other.
func TestTwoControllers(t *testing.T) {
	etcd := storetest.StartMembers(t, 1)
	s := newSite(t)
	c1 := s.controller(s.config("c1", etcd.Endpoints...))
	c2 := s.controller(s.config("c2", etcd.Endpoints...))
	c1.apply(poolDoc)
	var agents []*testAgent
	for i := range 6 {
		one := []*testController{c1, c2}[i%2]
		other := []*testController{c2, c1}[i%2]
		agents = append(agents, s.agent(fmt.Sprintf("node%d", i+1), nodeAddress(i), &engine{}, one.address, other.address))
	}
	for i, a := range agents {
		eventually(t, 20*time.Second, a.name, func() error {
			if n := len(a.engine.tables().Nodes); n != 6 {
				return fmt.Errorf("it knows %d nodes", n)
			}
			return nil
		})
		if i < 3 {
			if _, err := a.add("web", map[string]string{"app": "web"}); err == nil && i > 0 {
				t.Errorf("%s adds a pod of a name that another node has", a.name)
			}
			if _, err := a.add(fmt.Sprintf("ns%d/web", i), map[string]string{"app": "web"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	v := c2.apply(denyDoc("p", "web", 80)).GetVersion()
	atVersion(t, 5*time.Second, v, agents...)
	sameSets(t, s, v, c1, c2)

	// Either shows all nodes.
	for _, c := range []*testController{c1, c2} {
		eventually(t, 10*time.Second, c.cfg.Name, func() error {
			for name, st := range c.states() {
				if !st.GetConnected() || st.GetVersion() < v {
					return fmt.Errorf("%s: %v", name, st)
				}
			}
			return nil
		})
	}
	c1.Stop()
	stopped := time.Now()
	atVersion(t, 10*time.Second, c2.apply(denyDoc("p", "web", 81)).GetVersion(), agents...)
	t.Logf("all have a change %s after their controller went", time.Since(stopped).Round(time.Millisecond))
	for name, st := range c2.states() {
		if !st.GetConnected() || st.GetController() != "c2" {
			t.Errorf("%s: %v", name, st)
		}
	}
	onlyRises(t, agents...)
}

// sameSets compares the bytes that controllers push for one version.
func sameSets(t *testing.T, s *site, version uint64, controllers ...*testController) {
	t.Helper()
	sums := map[string]string{}
	for _, c := range controllers {
		set := s.fullSet(c, "node1")
		if set.version < version {
			t.Errorf("%s pushes version %d", c.cfg.Name, set.version)
		}
		sums[fmt.Sprintf("%d %x %x", set.version, set.hash, set.sum)] += " " + c.cfg.Name
	}
	if len(sums) != 1 {
		t.Errorf("they push different sets: %v", sums)
	}
}

// fullSet is one as it is pushed.
type fullSet struct {
	version   uint64
	hash, sum []byte
}

// fullSet follows as a node that has nothing.
func (s *site) fullSet(c *testController, node string) fullSet {
	s.t.Helper()
	client, done := s.node(c, node)
	defer done()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	stream, err := client.Follow(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := stream.Send(&pb.FollowRequest{Message: &pb.FollowRequest_Hello{Hello: &pb.Hello{}}}); err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.New()
	for {
		m, err := stream.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		p := m.GetPush()
		sum.Write(p.GetCommon())
		sum.Write(p.GetOwn())
		if p.GetLast() {
			return fullSet{p.GetVersion(), p.GetHash(), sum.Sum(nil)}
		}
	}
}

// node is a client with the certificate of a node.
func (s *site) node(c *testController, name string) (client pb.ControllerServiceClient, done func()) {
	s.t.Helper()
	source, err := pki.Open(pki.Files(s.files(pki.RoleNode, name)), pki.Options{Log: quiet()})
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+c.address, grpc.WithTransportCredentials(credentials.NewTLS(source.ClientTLS(pki.RoleController))))
	if err != nil {
		s.t.Fatal(err)
	}
	return pb.NewControllerServiceClient(conn), func() {
		if err := errors.Join(conn.Close(), source.Close()); err != nil {
			s.t.Error(err)
		}
	}
}

// TestRacingControllers lets two controllers give CIDRs, addresses and identities
// away at once. Nobody may get what somebody else has.
func TestRacingControllers(t *testing.T) {
	const nodes, pods = 12, 6
	etcd := storetest.StartMembers(t, 1)
	s := newSite(t)
	both := []*testController{s.controller(s.config("c1", etcd.Endpoints...)), s.controller(s.config("c2", etcd.Endpoints...))}
	both[0].apply(poolDoc)
	for i := range nodes {
		s.files(pki.RoleNode, fmt.Sprintf("node%d", i)) // not by several goroutines
	}
	type given struct {
		cidr      string
		addresses []string
	}
	got := make([]given, nodes)
	errs := make([]error, nodes)
	var group sync.WaitGroup
	for i := range nodes {
		client, done := s.node(both[i%2], fmt.Sprintf("node%d", i))
		group.Go(func() {
			defer done()
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			joined, err := client.Join(ctx, &pb.JoinRequest{Address: nodeAddress(i)})
			if err != nil {
				errs[i] = err
				return
			}
			got[i].cidr = joined.GetNodeCidrs()[0]
			for p := range pods {
				r, err := client.RegisterEndpoint(ctx, &pb.RegisterEndpointRequest{Name: fmt.Sprintf("n%d/p%d", i, p), Labels: map[string]string{"n": fmt.Sprint(i), "p": fmt.Sprint(p % 3)}})
				if err != nil {
					errs[i] = err
					return
				}
				got[i].addresses = append(got[i].addresses, r.GetAddress())
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var cidrs []netip.Prefix
	addresses := map[string]int{}
	for i, g := range got {
		c := netip.MustParsePrefix(g.cidr)
		if slices.ContainsFunc(cidrs, c.Overlaps) {
			t.Errorf("%s is given twice", c)
		}
		cidrs = append(cidrs, c)
		for _, a := range g.addresses {
			if other, twice := addresses[a]; twice || !c.Contains(netip.MustParseAddr(a)) {
				t.Errorf("node%d has %s of %s, and so has node%d", i, a, c, other)
			}
			addresses[a] = i
		}
	}
	for _, c := range both {
		eventually(t, 10*time.Second, c.cfg.Name, func() error {
			st, err := c.client.Status(t.Context())
			if err == nil && (st.GetNodes() != nodes || st.GetEndpoints() != nodes*pods || st.GetIdentities() != nodes*3) {
				err = fmt.Errorf("it has %v", st)
			}
			return err
		})
	}
}

// TestKill ends a controller with SIGKILL in the midst of changes, again and again,
// while another one goes on. What nodes have only rises and ends at what was
// committed last.
func TestKill(t *testing.T) {
	changes := 1000
	if testing.Short() {
		changes = 200
	}
	etcd := storetest.StartMembers(t, 1)
	s := newSite(t)
	c := s.controller(s.config("c1", etcd.Endpoints...))
	cfg := s.config("c2", etcd.Endpoints...)
	victim := &testController{site: s, cfg: cfg, address: cfg.Listen, client: s.client("unix://"+cfg.Socket, control.TLSFiles{})}
	process := s.process(cfg)
	s.waitUp(victim)
	c.apply(poolDoc)
	var agents []*testAgent
	for i := range 4 { // those of the victim first
		agents = append(agents, s.agent(fmt.Sprintf("node%d", i+1), nodeAddress(i), &engine{}, victim.address, c.address))
	}
	atVersion(t, 20*time.Second, c.apply(denyDoc("p", "web", 1)).GetVersion(), agents...)

	var last uint64
	for i := range changes {
		r, err := c.client.Apply(t.Context(), []string{denyDoc("p", "web", 2+i)})
		if err != nil {
			t.Fatal(err)
		}
		last = r.GetVersion()
		if i%(changes/4) == changes/8 {
			kill(process)
			process = s.process(cfg)
		}
	}
	atVersion(t, 10*time.Second, last, agents...)
	time.Sleep(200 * time.Millisecond) // something newer would come now
	for _, a := range agents {
		if v := a.engine.version(); v != last {
			t.Errorf("%s ends with version %d, %d was committed last", a.name, v, last)
		}
		if p := a.engine.tables().Policy; p == nil {
			t.Errorf("%s has no policy", a.name)
		}
	}
	onlyRises(t, agents...)
}

// TestEtcdAway: nothing can be changed without a majority, which is said; nodes go
// on, and all is well when etcd is back.
func TestEtcdAway(t *testing.T) {
	etcd := storetest.StartMembers(t, 1)
	s := newSite(t)
	c := s.controller(s.config("c1", etcd.Endpoints...))
	c.apply(poolDoc)
	agents := s.agents(2, c.address)
	atVersion(t, 10*time.Second, c.apply(denyDoc("p", "web", 1)).GetVersion(), agents...)
	etcd.Kill(0)
	eventually(t, 20*time.Second, "the reason", func() error {
		st, err := c.client.Status(t.Context())
		if err == nil && st.GetHealthy() {
			err = errors.New("it is healthy")
		}
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := c.client.Apply(ctx, []string{denyDoc("p", "web", 2)}); err == nil {
		t.Error("something was applied without etcd")
	}
	for name, st := range c.states() {
		if !st.GetConnected() {
			t.Errorf("%s is not connected", name)
		}
	}
	if err := etcd.Restart(0); err != nil {
		t.Fatal(err)
	}
	if err := etcd.WaitReady(); err != nil {
		t.Fatal(err)
	}
	var v uint64
	eventually(t, 20*time.Second, "a change", func() error {
		r, err := c.client.Apply(t.Context(), []string{denyDoc("p", "web", 3)})
		v = r.GetVersion()
		return err
	})
	atVersion(t, 10*time.Second, v, agents...)
	onlyRises(t, agents...)
}

package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ringway/control"
	"ringway/control/pki"
	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		runVictim()
		return
	}
	goleak.VerifyTestMain(m)
}

// site is a CA, and directories for those who have certificates of it.
type site struct {
	t   testing.TB
	dir string
}

func newSite(t testing.TB) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "rw") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &site{t, dir}
	if err := pki.InitCA(s.path("ca"), "test.example", time.Hour); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// files are a certificate's.
func (s *site) files(role pki.Role, name string) control.TLSFiles {
	s.t.Helper()
	out := s.path(string(role) + "-" + name)
	if _, err := os.Stat(out); err != nil {
		if _, err := pki.Issue(s.path("ca"), out, pki.Request{Role: role, Name: name, TTL: 30 * time.Minute}); err != nil {
			s.t.Fatal(err)
		}
	}
	return control.TLSFiles(pki.FilesIn(out))
}

// running is a controller or an agent that the test can stop.
type running struct {
	stop func()
	once sync.Once
}

// Stop ends it and waits. It may be called again.
func (r *running) Stop() { r.once.Do(r.stop) }

// start runs f until the test ends or stops it.
func (s *site) start(what string, f func(ctx context.Context) error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	r := &running{}
	r.stop = func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				s.t.Errorf("%s: %v", what, err)
			}
		case <-time.After(30 * time.Second):
			s.t.Errorf("%s does not stop", what)
		}
	}
	s.t.Cleanup(r.Stop)
	return r
}

// testController is a controller with a client that may do everything.
type testController struct {
	*running
	site    *site
	cfg     Config
	address string
	client  *control.ObjectClient
}

// freeAddress is a port on loopback that nobody listened on a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// config of a controller; endpoints, if any, are of an external etcd.
func (s *site) config(name string, endpoints ...string) Config {
	c := DefaultConfig()
	c.Name, c.Listen, c.TLS = name, freeAddress(s.t), s.files(pki.RoleController, name)
	c.Socket, c.DataDir = s.path(name+".sock"), s.path(name+"-data")
	c.EtcdEndpoints = endpoints
	return c
}

// controller starts one and waits until it answers.
func (s *site) controller(cfg Config) *testController {
	s.t.Helper()
	if err := cfg.Validate(); err != nil {
		s.t.Fatal(err)
	}
	c := &testController{site: s, cfg: cfg, address: cfg.Listen}
	c.running = s.start("controller "+cfg.Name, func(ctx context.Context) error {
		return Run(ctx, cfg, quiet())
	})
	c.client = s.client("unix://"+cfg.Socket, control.TLSFiles{})
	eventually(s.t, 20*time.Second, "controller "+cfg.Name, func() error {
		_, err := c.client.Status(s.t.Context())
		return err
	})
	return c
}

func (s *site) client(address string, files control.TLSFiles) *control.ObjectClient {
	s.t.Helper()
	c, err := control.NewObjectClient(address, files)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return c
}

func (c *testController) apply(documents ...string) *pb.ApplyObjectsResponse {
	c.site.t.Helper()
	r, err := c.client.Apply(context.Background(), documents)
	if err != nil {
		c.site.t.Fatalf("apply: %v", err)
	}
	return r
}

// states of the nodes, by name.
func (c *testController) states() map[string]*pb.NodeState {
	c.site.t.Helper()
	list, err := c.client.NodeStates(context.Background())
	if err != nil {
		c.site.t.Fatal(err)
	}
	out := map[string]*pb.NodeState{}
	for _, n := range list {
		out[n.GetName()] = n
	}
	return out
}

// engine is a dataplane that remembers the sets that it is given. What else there
// is to an Engine nobody asks here.
type engine struct {
	control.Engine
	mu        sync.Mutex
	applied   []dataplane.Tables
	refuse    error
	endpoints map[string]dataplane.EndpointStatus
}

func (e *engine) Apply(t dataplane.Tables, _ string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refuse != nil {
		return e.refuse
	}
	e.applied = append(e.applied, t)
	return nil
}

func (e *engine) Refused(string, error) {}

func (e *engine) Status() dataplane.Status {
	return dataplane.Status{TablesVersion: e.version()}
}

func (e *engine) version() uint64 { return e.tables().Version }

func (e *engine) tables() dataplane.Tables {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.applied) == 0 {
		return dataplane.Tables{}
	}
	return e.applied[len(e.applied)-1]
}

// versions in the order in which they were applied.
func (e *engine) versions() []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []uint64
	for _, t := range e.applied {
		out = append(out, t.Version)
	}
	return out
}

func (e *engine) setRefuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refuse = err
}

func (e *engine) Endpoints() []dataplane.EndpointStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []dataplane.EndpointStatus
	for _, name := range slices.Sorted(maps.Keys(e.endpoints)) {
		out = append(out, e.endpoints[name])
	}
	return out
}

func (e *engine) AddEndpoint(_ context.Context, r dataplane.EndpointRequest) (dataplane.EndpointStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := dataplane.EndpointStatus{Name: r.Name, Address: r.Address, Netns: r.Netns, Ifname: r.Ifname, Labels: r.Labels, Ports: r.Ports}
	if e.endpoints == nil {
		e.endpoints = map[string]dataplane.EndpointStatus{}
	}
	e.endpoints[r.Name] = s
	return s, nil
}

func (e *engine) DeleteEndpoint(_ context.Context, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.endpoints, name)
	return nil
}

// CountFlows says ten for each identity.
func (e *engine) CountFlows(_ context.Context, identities []uint32) (uint64, error) {
	return 10 * uint64(len(identities)), nil
}

// testAgent is an agent around an engine.
type testAgent struct {
	*running
	name   string
	engine *engine
	client *control.Client
}

// agent starts one that joins by itself. address is the node's.
func (s *site) agent(name, address string, e *engine, controllers ...string) *testAgent {
	s.t.Helper()
	socket := s.path(name + ".sock")
	l, err := control.Listen(socket, control.Access{})
	if err != nil {
		s.t.Fatal(err)
	}
	a := &testAgent{name: name, engine: e}
	join := &control.JoinOptions{Controllers: controllers, TLS: s.files(pki.RoleNode, name), Address: address, StateFile: s.path(name + ".state")}
	a.running = s.start("agent "+name, func(ctx context.Context) error {
		return control.Serve(ctx, control.Options{Listener: l, Engine: e, Node: name, Join: join, Log: quiet()})
	})
	if a.client, err = control.NewClient(socket); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := a.client.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return a
}

// agents starts n of them, node1 and so on.
func (s *site) agents(n int, controllers ...string) []*testAgent {
	s.t.Helper()
	var out []*testAgent
	for i := range n {
		out = append(out, s.agent(fmt.Sprintf("node%d", i+1), nodeAddress(i), &engine{}, controllers...))
	}
	return out
}

func nodeAddress(i int) string {
	return netip.AddrFrom4([4]byte{192, 168, byte(i / 250), byte(i%250 + 1)}).String()
}

// add attaches a pod.
func (a *testAgent) add(name string, labels map[string]string) (*pb.Endpoint, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return a.client.AddEndpoint(ctx, &pb.AddEndpointRequest{Name: name, Netns: "/run/netns/" + name, Labels: labels})
}

// eventually waits until done has no error.
func eventually(t testing.TB, patience time.Duration, what string, done func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = done(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, patience, err)
}

// atVersion waits until all agents have a version in force.
func atVersion(t testing.TB, patience time.Duration, version uint64, agents ...*testAgent) {
	t.Helper()
	for _, a := range agents {
		eventually(t, patience, fmt.Sprintf("version %d at %s", version, a.name), func() error {
			if v := a.engine.version(); v < version {
				return fmt.Errorf("it has %d", v)
			}
			return nil
		})
	}
}

// onlyRises fails where an agent went back.
func onlyRises(t testing.TB, agents ...*testAgent) {
	t.Helper()
	for _, a := range agents {
		vs := a.engine.versions()
		for i := 1; i < len(vs); i++ {
			if vs[i] <= vs[i-1] {
				t.Errorf("%s applied %d after %d", a.name, vs[i], vs[i-1])
			}
		}
	}
}

const poolDoc = `{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: pods}, spec: {cidrs: [10.200.0.0/16], maskSize: 24}}`

// denyDoc is a policy that isolates pods of an app; n makes it another.
func denyDoc(name, app string, n int) string {
	return fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %s},
spec: {podSelector: {matchLabels: {app: %s}}, policyTypes: [Ingress], ingress: [{ports: [{protocol: TCP, port: %d}]}]}}`, name, app, n)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

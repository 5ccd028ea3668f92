package push

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

func TestFollowerTakesChanges(t *testing.T) {
	s, w := published(t, ServerOptions{})
	a := newAgent(t, "n0", FollowerOptions{}, s)
	a.run(t)
	a.wait(t, w.version)
	w.policies(256, 1)
	w.service("dns", 1)
	w.nodes["n0"] = []uint32{256}
	a.wait(t, publish(s, w))
	w.verify("n0", a)
	want := []string{tableset.KeyPolicy(256), tableset.KeyService("default", "dns")}
	if got := a.changed[1].Keys; !slices.Equal(got, want) {
		t.Errorf("changed %v, want %v", got, want)
	}
	c := a.Connection()
	if !c.Connected || c.Cluster != cluster || c.Version != w.version || c.Controller != s.socket || c.Confirmed.IsZero() {
		t.Errorf("connection %+v", c)
	}
	if _, err := a.Client(); err != nil {
		t.Error(err)
	}
}

func TestRefusalShowsAndEnds(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	a := newAgent(t, "n0", FollowerOptions{}, s)
	a.run(t)
	first := w.version
	a.wait(t, first)
	a.setRefuse(func(set *pb.TableSet) []*pb.Problem {
		if set.GetServices()[0].GetAddress() == "10.96.0.1" {
			return problem("services[0].address")
		}
		return nil
	})
	w.service("dns", 1)
	bad := publish(s, w)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := a.WaitVersion(ctx, bad); err == nil || !strings.Contains(err.Error(), "services[0].address: it is on fire: use water") {
		t.Errorf("waited with %v", err)
	}
	if c := a.Connection(); c.Version != first || c.Refused != bad || len(c.Problems) != 1 {
		t.Errorf("connection %+v", c)
	}
	w.service("dns", 2)
	good := publish(s, w)
	eventually(t, "it got over it", func() bool { c := a.Connection(); return c.Version == good && c.Refused == 0 })
	w.verify("n0", a)
}

// TestRefusalOfTheMoment is over as soon as the node is better.
func TestRefusalOfTheMoment(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	a := newAgent(t, "n0", FollowerOptions{RetryInterval: 5 * time.Millisecond}, s)
	a.run(t)
	a.wait(t, w.version)
	full := func(*pb.TableSet) []*pb.Problem { return problem("stateDir") }
	a.setRefuse(full)
	w.service("dns", 1)
	bad := publish(s, w)
	eventually(t, "the refusal shows", func() bool { return s.server.States()["n0"].Refused == bad })
	a.setRefuse(nil)
	eventually(t, "the controller knows", func() bool { st := s.server.States()["n0"]; return st.Version == bad && st.Refused == 0 })
	w.service("dns", 2)
	a.wait(t, publish(s, w))
	w.verify("n0", a)
}

func TestStateFileResumes(t *testing.T) {
	s, w := published(t, ServerOptions{})
	o := FollowerOptions{StateFile: filepath.Join(t.TempDir(), "set")}
	a := newAgent(t, "n0", o, s)
	stop := a.run(t)
	first := w.version
	a.wait(t, first)
	stop()
	w.service("dns", 1)
	v := publish(s, w)

	// What is in force already is not applied again.
	kept := o
	kept.InForce = first
	b := newAgent(t, "n0", kept, s)
	stop = b.run(t)
	b.wait(t, v)
	stop()
	if len(b.applied) != 1 || len(b.changed[0].Keys) != 1 {
		t.Errorf("applied %d sets, the first one with changes of %v", len(b.applied), b.changed[0].Keys)
	}

	// Without a controller, the last set is in force at once.
	alone := newAgent(t, "n0", o)
	alone.o.Controllers = []string{filepath.Join(t.TempDir(), "nobody")}
	alone.Restore()
	if v := alone.Connection().Version; v != w.version || len(alone.applied) != 1 {
		t.Errorf("version %d after %d sets", v, len(alone.applied))
	}
	w.verify("n0", alone)
	alone.run(t)
	eventually(t, "why there is no connection shows", func() bool { return alone.Connection().Err != nil })
	if _, err := alone.Client(); err == nil {
		t.Error("there is a client without a controller")
	}

	// Another version in force: the file is of no use, but the node does not go back.
	other := o
	other.InForce = first
	c := newAgent(t, "n0", other, s)
	c.run(t)
	c.wait(t, v)
	w.verify("n0", c)
	if len(c.changed[0].Keys) == 1 {
		t.Error("it took changes of a set that it does not know")
	}
}

func TestSavedSetThatIsRefused(t *testing.T) {
	s, w := published(t, ServerOptions{})
	o := FollowerOptions{StateFile: filepath.Join(t.TempDir(), "set")}
	a := newAgent(t, "n0", o, s)
	stop := a.run(t)
	a.wait(t, w.version)
	stop()
	b := newAgent(t, "n0", o, s)
	b.setRefuse(func(*pb.TableSet) []*pb.Problem { return problem("nodes") })
	b.Restore()
	if c := b.Connection(); c.Version != 0 || c.Cluster != cluster {
		t.Errorf("connection %+v", c)
	}
	b.setRefuse(nil)
	b.run(t)
	b.wait(t, w.version)
}

func TestDamagedStateFile(t *testing.T) {
	s, w := published(t, ServerOptions{})
	path := filepath.Join(t.TempDir(), "set")
	a := newAgent(t, "n0", FollowerOptions{StateFile: path}, s)
	stop := a.run(t)
	a.wait(t, w.version)
	stop()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)-5]++
	for name, data := range map[string][]byte{
		"empty":          {},
		"cut short":      good[:len(good)/2],
		"another format": append([]byte("x"), good...),
		"flipped":        flipped,
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readState(path); err == nil || got.set != nil {
			t.Errorf("%s: read %v", name, got)
		}
		b := newAgent(t, "n0", FollowerOptions{StateFile: path, InForce: w.version}, s)
		stop := b.run(t)
		eventually(t, name+": a full set came", func() bool { return b.last() != nil })
		stop()
		w.verify("n0", b)
	}
	if got, err := readState(path); err != nil || got.version != w.version {
		t.Errorf("afterwards the file is %v, %v", got, err)
	}
}

func FuzzState(f *testing.F) {
	rs, err := tableset.Split(&pb.TableSet{Routing: "direct"})
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "set")
	if err := writeState(path, goodSet{"c", 1, tableset.Of(rs...)}); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := decodeState(b); err == nil && (g.set == nil || g.cluster == "" || g.version == 0) {
			t.Errorf("read %v without an error", g)
		}
	})
}

// liar is a controller that pushes what the test wants it to, and notes answers.
type liar struct {
	pb.UnimplementedControllerServiceServer
	hello   chan *pb.Hello
	push    chan *pb.FollowResponse
	answers chan *pb.Answer
}

func (l *liar) Follow(stream pb.ControllerService_FollowServer) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	l.hello <- m.GetHello()
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			l.answers <- m.GetAnswer()
		}
	}()
	for {
		select {
		case p := <-l.push:
			if err := stream.Send(p); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func newLiar(t *testing.T) (*liar, *site) {
	t.Helper()
	l := &liar{hello: make(chan *pb.Hello, 10), push: make(chan *pb.FollowResponse), answers: make(chan *pb.Answer, 10)}
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(GRPCServerOptions()...)
	pb.RegisterControllerServiceServer(g, l)
	go func() { _ = g.Serve(listener) }() // until Stop
	t.Cleanup(g.Stop)
	return l, &site{socket: socket}
}

func (l *liar) tell(p *pb.Push) *pb.Answer {
	l.push <- &pb.FollowResponse{Message: &pb.FollowResponse_Push{Push: p}}
	return <-l.answers
}

// TestFollowerRefuses is what a node makes of pushes that are not in order.
func TestFollowerRefuses(t *testing.T) {
	l, s := newLiar(t)
	a := newAgent(t, "n0", FollowerOptions{}, s)
	a.run(t)
	if h := <-l.hello; h.GetVersion() != 0 || h.GetCluster() != "" || len(h.GetHash()) > 0 {
		t.Errorf("hello %v", h)
	}
	rs, err := tableset.Split(&pb.TableSet{Routing: "direct", Nodes: []*pb.Node{{Name: "n0"}}})
	if err != nil {
		t.Fatal(err)
	}
	common, err := proto.Marshal(&pb.Changes{Upserts: upserts(rs)})
	if err != nil {
		t.Fatal(err)
	}
	hash := tableset.Of(rs...).Digest()
	nonce := uint64(0)
	full := func(change func(p *pb.Push)) *pb.Push {
		nonce++
		p := &pb.Push{Nonce: nonce, Cluster: cluster, Version: 20, Common: common, Last: true, Hash: hash[:]}
		if change != nil {
			change(p)
		}
		return p
	}
	if got := l.tell(full(func(p *pb.Push) { p.Hash = make([]byte, 16) })); !got.GetResync() {
		t.Errorf("a wrong hash: %v", got)
	}
	if got := l.tell(full(func(p *pb.Push) { p.Cluster = "" })); len(got.GetProblems()) != 1 {
		t.Errorf("no cluster: %v", got)
	}
	if got := l.tell(full(nil)); len(got.GetProblems()) > 0 || got.GetResync() || got.GetNonce() != nonce {
		t.Errorf("a good set: %v", got)
	}
	if got := l.tell(full(func(p *pb.Push) { p.Version = 19 })); got.GetProblems()[0].GetField() != "version" {
		t.Errorf("an older set: %v", got)
	}
	if got := l.tell(full(func(p *pb.Push) { p.Cluster = "c2" })); got.GetProblems()[0].GetField() != "cluster" {
		t.Errorf("a set of another cluster: %v", got)
	}
	if got := l.tell(full(func(p *pb.Push) { p.Base, p.Version = 18, 21 })); !got.GetResync() {
		t.Errorf("changes of another version: %v", got)
	}
	if got := l.tell(full(func(p *pb.Push) { p.Base, p.Version = 20, 21 })); !got.GetResync() {
		t.Errorf("changes that add what is there: %v", got)
	}
	if got := l.tell(full(func(p *pb.Push) { p.Common = []byte{0xff} })); got.GetProblems()[0].GetField() != "set" {
		t.Errorf("changes that are none: %v", got)
	}
	nonsense := tableset.Encoded("frobs/a", nil)
	encoded, _ := proto.Marshal(&pb.Changes{Upserts: upserts([]tableset.Resource{nonsense})})
	sum := tableset.Of(append(slices.Clone(rs), nonsense)...).Digest()
	if got := l.tell(full(func(p *pb.Push) { p.Own, p.Hash = encoded, sum[:] })); got.GetProblems()[0].GetField() != "set" {
		t.Errorf("a resource of an unknown kind: %v", got)
	}
	// A message that is lost leaves a set that is not whole; a newer one counts.
	l.push <- &pb.FollowResponse{Message: &pb.FollowResponse_Push{Push: full(func(p *pb.Push) { p.Last, p.Version = false, 22 })}}
	if got := l.tell(full(func(p *pb.Push) { p.Version = 23 })); got.GetVersion() != 23 || len(got.GetProblems()) > 0 {
		t.Errorf("a set after one that was cut short: %v", got)
	}
	l.push <- &pb.FollowResponse{Message: &pb.FollowResponse_Check{Check: &pb.Check{Version: 23, Hash: make([]byte, 16)}}}
	if got := <-l.answers; !got.GetResync() || got.GetNonce() != 0 {
		t.Errorf("a check with another hash: %v", got)
	}
	if len(a.applied) != 2 {
		t.Errorf("%d sets were applied, want 2", len(a.applied))
	}
}

// FuzzPush has a node that has a set take what may come.
func FuzzPush(f *testing.F) {
	rs, err := tableset.Split(&pb.TableSet{Routing: "direct"})
	if err != nil {
		f.Fatal(err)
	}
	have := goodSet{cluster, 20, tableset.Of(rs...)}
	hash := have.set.Digest()
	common, _ := proto.Marshal(&pb.Changes{Upserts: upserts(rs)})
	for _, p := range []*pb.Push{
		{Nonce: 1, Cluster: cluster, Version: 21, Common: common, Hash: hash[:], Last: true},
		{Nonce: 1, Cluster: cluster, Version: 21, Base: 20, Hash: hash[:], Last: true},
	} {
		data, _ := proto.Marshal(p)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p pb.Push
		if proto.Unmarshal(data, &p) != nil {
			return
		}
		a := newAgent(t, "n0", FollowerOptions{})
		a.have = have
		answer := a.push(&p, &collector{}).GetAnswer()
		if have.set.Digest() != hash {
			t.Fatal("the set is another one now")
		}
		if accepted := answer != nil && !answer.GetResync() && len(answer.GetProblems()) == 0; accepted != (len(a.applied) == 1) {
			t.Fatalf("answered %v after %d sets were applied", answer, len(a.applied))
		}
		if a.have.version < have.version {
			t.Fatalf("went back to version %d", a.have.version)
		}
	})
}

// TestFailover stops the controller that a node follows.
func TestFailover(t *testing.T) {
	w := newWorld(t, 1)
	sites := map[string]*site{}
	v := w.commit(1)
	a := newAgent(t, "n0", FollowerOptions{})
	for range 3 {
		s := newSite(t, ServerOptions{})
		s.server.Publish(w.update(0, v))
		sites[s.socket] = s
		a.o.Controllers = append(a.o.Controllers, s.socket)
	}
	a.run(t)
	a.wait(t, v)
	first := a.Connection().Controller
	sites[first].stop()
	eventually(t, "it follows another one", func() bool { c := a.Connection(); return c.Connected && c.Controller != first })
	w.service("dns", 1)
	base := w.version
	v = w.commit(1)
	for _, s := range sites {
		s.server.Publish(w.update(base, v))
	}
	a.wait(t, v)
	w.verify("n0", a)
	if len(a.applied) != 2 || len(a.changed[1].Keys) != 1 {
		t.Errorf("it applied %d sets", len(a.applied))
	}
}

func TestJoinComesFirst(t *testing.T) {
	s, w := published(t, ServerOptions{})
	var joins atomic.Int32
	a := newAgent(t, "n0", FollowerOptions{Join: func(context.Context, pb.ControllerServiceClient) error {
		if joins.Add(1) < 3 {
			return errors.New("no CIDR is left: add a pool")
		}
		return nil
	}}, s)
	a.run(t)
	a.wait(t, w.version)
	if joins.Load() != 3 {
		t.Errorf("joined %d times", joins.Load())
	}
}

func TestForeignClusterShows(t *testing.T) {
	s, w := published(t, ServerOptions{})
	other := newSite(t, ServerOptions{Cluster: "c2"})
	o := FollowerOptions{StateFile: filepath.Join(t.TempDir(), "set")}
	a := newAgent(t, "n0", o, s)
	stop := a.run(t)
	a.wait(t, w.version)
	stop()
	b := newAgent(t, "n0", o, other)
	b.run(t)
	eventually(t, "the remedy shows", func() bool {
		err := b.Connection().Err
		return err != nil && strings.Contains(err.Error(), "ringway cleanup")
	})
	if v := b.Connection().Version; v != w.version {
		t.Errorf("version %d is in force, want %d", v, w.version)
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{least: 100 * time.Millisecond, most: time.Second}
	for range 100 {
		b.reset()
		for i, most := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			most *= time.Millisecond
			if d := b.next(); d < most/2 || d > most {
				t.Fatalf("attempt %d waits %s, want %s to %s", i, d, most/2, most)
			}
		}
	}
}

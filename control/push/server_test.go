package push

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// published is a server that has version 11 of a world with two nodes.
func published(t *testing.T, o ServerOptions) (*site, *world) {
	t.Helper()
	s, w := newSite(t, o), newWorld(t, 2)
	s.server.Publish(w.update(0, w.commit(1)))
	return s, w
}

// publish commits and publishes.
func publish(s *site, w *world) uint64 {
	base := w.version
	v := w.commit(1)
	s.server.Publish(w.update(base, v))
	return v
}

func TestNodeThatComesBackGetsOneChange(t *testing.T) {
	s, w := published(t, ServerOptions{})
	first := w.version
	for i := range 5 {
		w.service("dns", i)
		publish(s, w)
	}
	r := follow(t, s, "n0", w.hello("n0", first))
	p := r.push()
	if p.GetBase() != first || p.GetVersion() != w.version || !p.GetLast() {
		t.Errorf("got %v", p)
	}
	if got := keys(t, p); !slices.Equal(got, []string{"service/default/dns"}) {
		t.Errorf("changes of %v", got)
	}
}

func TestNodeThatHasTheNewestIsTold(t *testing.T) {
	s, w := published(t, ServerOptions{})
	r := follow(t, s, "n0", w.hello("n0", w.version))
	if c := r.next().GetCheck(); c.GetVersion() != w.version {
		t.Errorf("got %v, want a check of version %d", c, w.version)
	}
	r.nothing("it has everything")
}

func TestNodeThatHasSomethingElseGetsAFullSet(t *testing.T) {
	s, w := published(t, ServerOptions{})
	h := w.hello("n0", w.version)
	h.Hash[3]++
	if p := follow(t, s, "n0", h).push(); p.GetBase() != 0 || p.GetVersion() != w.version {
		t.Errorf("got %v, want a full set", p)
	}
	unknown := &pb.Hello{Cluster: cluster, Version: 3, Hash: h.Hash}
	if p := follow(t, s, "n1", unknown).push(); p.GetBase() != 0 {
		t.Errorf("got %v, want a full set", p)
	}
}

// TestOneSetAtATime publishes much while a node has an answer to give.
func TestOneSetAtATime(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	r := follow(t, s, "n0", &pb.Hello{})
	first := r.push()
	for i := range 20 {
		w.service("dns", i)
		publish(s, w)
	}
	r.nothing("the first set has no answer")
	r.ack(first)
	p := r.push()
	if p.GetBase() != first.GetVersion() || p.GetVersion() != w.version {
		t.Errorf("from %d to %d, want from %d to %d", p.GetBase(), p.GetVersion(), first.GetVersion(), w.version)
	}
	r.ack(p)
	r.nothing("it has everything")
}

// TestWindow publishes several versions in less time than the window takes.
func TestWindow(t *testing.T) {
	s, w := published(t, ServerOptions{Window: 300 * time.Millisecond})
	r := follow(t, s, "n0", w.hello("n0", w.version))
	r.next() // the check
	for i := range 5 {
		w.service("dns", i)
		publish(s, w)
	}
	if p := r.push(); p.GetVersion() != w.version {
		t.Errorf("got version %d, want %d", p.GetVersion(), w.version)
	}
}

func TestRefusedSetIsNotSentAgain(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	base := w.version
	r := follow(t, s, "n0", w.hello("n0", base))
	r.next()
	w.service("dns", 1)
	bad := publish(s, w)
	r.nack(r.push())
	eventually(t, "the refusal shows", func() bool { return s.server.States()["n0"].Refused == bad })
	if st := s.server.States()["n0"]; st.Version != base || st.Problems[0].GetField() != "nodes[0].address" {
		t.Errorf("state %+v", st)
	}
	publish(s, w) // nothing is other in it
	r.nothing("it would refuse this, too")

	w.service("dns", 2)
	good := publish(s, w)
	p := r.push()
	if p.GetBase() != base || p.GetVersion() != good {
		t.Errorf("from %d to %d, want from %d to %d", p.GetBase(), p.GetVersion(), base, good)
	}
	r.ack(p)
	eventually(t, "the refusal is over", func() bool { st := s.server.States()["n0"]; return st.Refused == 0 && st.Version == good })
}

// TestChangeThatIsTakenBack leaves a node where it was before it refused.
func TestChangeThatIsTakenBack(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	r := follow(t, s, "n0", w.hello("n0", w.version))
	r.next()
	w.service("dns", 1)
	publish(s, w)
	r.nack(r.push())
	delete(w.common, "service/default/dns")
	publish(s, w)
	p := r.push()
	if got := keys(t, p); len(got) > 0 || p.GetVersion() != w.version {
		t.Errorf("version %d with changes of %v", p.GetVersion(), got)
	}
	r.ack(p)
	eventually(t, "the refusal is over", func() bool { return s.server.States()["n0"].Refused == 0 })
}

// TestRefusalOutlivesTheStream has a node come back to the same controller and to
// another one.
func TestRefusalOutlivesTheStream(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	other := newSite(t, ServerOptions{})
	base := w.version
	w.service("dns", 1)
	bad := w.commit(1)
	hello := w.hello("n0", base)
	hello.Refused, hello.Problems = bad, problem("services[0]")
	s.server.Publish(w.update(base, bad))
	same := w.commit(1)
	s.server.Publish(w.update(bad, same))
	other.server.Publish(w.update(0, bad))
	other.server.Publish(w.update(bad, same))

	for name, at := range map[string]*site{"the same": s, "another": other} {
		r := follow(t, at, "n0", hello)
		r.nothing(name + ": the node refused this")
		if st := at.server.States()["n0"]; st.Refused != bad || len(st.Problems) != 1 {
			t.Errorf("%s: state %+v", name, st)
		}
	}
	// An agent that is started again has forgotten it and may be a better one.
	hello.Refused, hello.Problems = 0, nil
	if p := follow(t, s, "n0", hello).push(); p.GetVersion() != same {
		t.Errorf("got version %d, want %d", p.GetVersion(), same)
	}
}

func TestNodeThatGotOverItByItself(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	r := follow(t, s, "n0", w.hello("n0", w.version))
	r.next()
	w.service("dns", 1)
	publish(s, w)
	p := r.push()
	r.nack(p)
	r.answer(&pb.Answer{Version: p.GetVersion()})
	eventually(t, "the refusal is over", func() bool { return s.server.States()["n0"].Version == p.GetVersion() })
	w.service("dns", 2)
	publish(s, w)
	if next := r.push(); next.GetBase() != p.GetVersion() {
		t.Errorf("changes of version %d, want of %d", next.GetBase(), p.GetVersion())
	}
}

// TestNoNodeGoesBack has a node come to a controller that lags behind.
func TestNoNodeGoesBack(t *testing.T) {
	s, w := published(t, ServerOptions{})
	v1 := w.version
	w.service("dns", 1)
	v2 := w.commit(1)
	r := follow(t, s, "n0", w.hello("n0", v2))
	r.nothing("the node is ahead")
	s.server.Publish(w.update(v1, v2))
	if c := r.next().GetCheck(); c.GetVersion() != v2 {
		t.Errorf("got %v, want a check of version %d", c, v2)
	}
	w.service("dns", 2)
	publish(s, w)
	if p := r.push(); p.GetBase() != v2 {
		t.Errorf("changes of version %d, want of %d", p.GetBase(), v2)
	}
}

func TestNodeOfAnotherCluster(t *testing.T) {
	s, _ := published(t, ServerOptions{})
	follow(t, s, "n0", &pb.Hello{Cluster: "c2", Version: 5}).ends(codes.FailedPrecondition)
}

func TestUpdatesThatAreNone(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	r := follow(t, s, "n0", w.hello("n0", w.version))
	r.next()
	s.server.Publish(tableset.Update{Cluster: "c2", Version: 100})
	s.server.Publish(tableset.Update{Cluster: cluster, Version: w.version, Reset: true})
	r.nothing("nothing was published")
	if v := s.server.Version(); v != w.version {
		t.Errorf("version %d, want %d", v, w.version)
	}
}

// TestNodeThatIsNoMember waits until it is one.
func TestNodeThatIsNoMember(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	r := follow(t, s, "late", &pb.Hello{})
	r.nothing("it is no member")
	w.node("late", 1)
	v := publish(s, w)
	if p := r.push(); p.GetVersion() != v {
		t.Errorf("version %d, want %d", p.GetVersion(), v)
	}
	delete(w.common, tableset.KeyNode("late"))
	delete(w.nodes, "late")
	publish(s, w)
	r.conn.Close()
	eventually(t, "it is forgotten", func() bool { return len(s.server.States()) == 0 })
}

func TestResync(t *testing.T) {
	s, w := published(t, ServerOptions{Window: time.Millisecond})
	r := follow(t, s, "n0", w.hello("n0", w.version))
	r.next()
	w.service("dns", 1)
	publish(s, w)
	p := r.push()
	r.answer(&pb.Answer{Nonce: p.GetNonce(), Version: p.GetVersion(), Resync: true})
	full := r.push()
	if full.GetBase() != 0 || full.GetNonce() <= p.GetNonce() {
		t.Errorf("got base %d and nonce %d, want a full set with a nonce above %d", full.GetBase(), full.GetNonce(), p.GetNonce())
	}
	r.ack(full)
	r.answer(&pb.Answer{Version: full.GetVersion(), Resync: true}) // as if to a check
	again := r.push()
	if again.GetBase() != 0 || again.GetVersion() != w.version || again.GetNonce() <= full.GetNonce() {
		t.Errorf("got %v", again)
	}
	r.answer(&pb.Answer{Nonce: again.GetNonce(), Resync: true})
	r.ends(codes.DataLoss)
}

func TestCheck(t *testing.T) {
	s, w := published(t, ServerOptions{CheckInterval: 20 * time.Millisecond})
	h := w.hello("n0", w.version)
	r := follow(t, s, "n0", h)
	for range 3 {
		if c := r.next().GetCheck(); c.GetVersion() != w.version || string(c.GetHash()) != string(h.GetHash()) {
			t.Errorf("got %v", c)
		}
	}
}

func TestNewerStreamTakesOver(t *testing.T) {
	s, w := published(t, ServerOptions{})
	old := follow(t, s, "n0", &pb.Hello{})
	old.push()
	fresh := follow(t, s, "n0", &pb.Hello{})
	old.ends(codes.Aborted)
	fresh.ack(fresh.push())
	eventually(t, "the newer stream counts", func() bool {
		st := s.server.States()["n0"]
		return st.Connected && st.Version == w.version
	})
}

func TestNodeThatDoesNotAnswer(t *testing.T) {
	s, _ := published(t, ServerOptions{AnswerTimeout: 50 * time.Millisecond})
	r := follow(t, s, "n0", &pb.Hello{})
	r.push()
	r.ends(codes.DeadlineExceeded)
	eventually(t, "it is not connected", func() bool { return !s.server.States()["n0"].Connected })
}

// TestNodeThatDoesNotRead is sent more than fits on the way. Others must not wait.
func TestNodeThatDoesNotRead(t *testing.T) {
	s, w := newSite(t, ServerOptions{AnswerTimeout: 100 * time.Millisecond, FullSets: 1}), newWorld(t, 2)
	big(w, 300)
	v := w.commit(1)
	s.server.Publish(w.update(0, v))
	slow := dialRaw(t, s, "n0")
	slow.say(&pb.FollowRequest{Message: &pb.FollowRequest_Hello{Hello: &pb.Hello{}}})
	eventually(t, "it is connected", func() bool { return s.server.States()["n0"].Connected })
	a := newAgent(t, "n1", FollowerOptions{}, s)
	a.run(t)
	a.wait(t, v)
	eventually(t, "the stream is ended", func() bool { return !s.server.States()["n0"].Connected })
}

// big makes the set of a world many parts long: n services of 16 KiB, and one
// that does not fit into a part. What services hold is of no interest here.
func big(w *world, n int) {
	for i := range n {
		bigService(w, i, 16)
	}
	bigService(w, n, 1200)
}

func bigService(w *world, i, kib int) {
	name := fmt.Sprintf("big%d", i)
	key := tableset.KeyService("default", name)
	backends := make([]string, kib)
	for b := range backends {
		backends[b] = strings.Repeat("x", 1<<10)
	}
	w.common[key] = resource(w.t, key, &pb.Service{Namespace: "default", Name: name, Backends: backends})
}

func TestParts(t *testing.T) {
	s, w := newSite(t, ServerOptions{}), newWorld(t, 3)
	big(w, 200)
	for id := uint32(256); id < 270; id++ {
		key := tableset.KeyPolicy(id)
		rules := make([]*pb.PolicyRule, 3000)
		for i := range rules {
			rules[i] = &pb.PolicyRule{Name: fmt.Sprintf("default/policy-%d ingress[%d]", id, i), Action: "allow"}
		}
		w.policy[key] = resource(t, key, &pb.IdentityPolicy{Identity: id, Ingress: &pb.DirectionPolicy{Rules: rules}})
		w.nodes["n0"] = append(w.nodes["n0"], id)
	}
	v := w.commit(1)
	s.server.Publish(w.update(0, v))
	agents := map[string]*agent{}
	for _, name := range []string{"n0", "n1"} {
		agents[name] = newAgent(t, name, FollowerOptions{}, s)
		agents[name].run(t)
		agents[name].wait(t, v)
	}
	// Changes that are many parts long, too.
	base := w.version
	for i := range 80 {
		bigService(w, i, 20)
	}
	delete(w.nodes, "n0")
	w.nodes["n0"] = []uint32{256}
	v = w.commit(1)
	s.server.Publish(w.update(base, v))
	for name, a := range agents {
		a.wait(t, v)
		w.verify(name, a)
	}
	r := follow(t, s, "n2", &pb.Hello{})
	parts := 0
	for {
		p := r.push()
		parts++
		if n := len(p.GetCommon()); n > maxPart && len(keys(t, p)) > 1 {
			t.Errorf("a part of %d bytes with %d changes", n, len(keys(t, p)))
		}
		if p.GetLast() {
			break
		}
	}
	if parts < 4 {
		t.Errorf("%d parts, want several", parts)
	}
}

// TestPlansAreBounded has nodes come back with all the versions of the log.
func TestPlansAreBounded(t *testing.T) {
	w := newWorld(t, 1)
	big(w, 1000)
	c := newCatalog(cluster)
	u := w.update(0, w.commit(1))
	c.publish(&u)
	for i := range 100 {
		bigService(w, i, 16)
		w.service("dns", i)
		base := w.version
		u := w.update(base, w.commit(1))
		c.publish(&u)
	}
	for v := uint64(12); v < c.version; v++ {
		p, err := c.plan(v)
		if err != nil {
			t.Fatal(err)
		}
		if v > 15 && p == nil {
			t.Fatalf("no changes lead on from version %d", v)
		}
		if c.planned > maxPlanBytes {
			t.Fatalf("%d bytes of plans are kept", c.planned)
		}
	}
	// From where everything is another the full set is shorter.
	for i := range 1001 {
		bigService(w, i, 17)
	}
	base := w.version
	u = w.update(base, w.commit(1))
	c.publish(&u)
	if p, err := c.plan(base); p != nil || err != nil {
		t.Errorf("changes of %d parts, %v", len(p.parts), err)
	}
}

// TestLogIsBounded publishes more than the server remembers.
func TestLogIsBounded(t *testing.T) {
	c := newCatalog(cluster)
	for v := uint64(1); v <= 2*maxLogVersions; v++ {
		c.publish(&tableset.Update{Cluster: cluster, Version: v})
	}
	if len(c.log) > maxLogVersions {
		t.Errorf("%d versions in the log", len(c.log))
	}
	if _, known := c.since(2); known {
		t.Error("version 2 is still known")
	}
	if _, known := c.since(2*maxLogVersions - 5); !known {
		t.Error("a version of late is not known")
	}
	var many []tableset.Change
	for i := range 2000 {
		r := tableset.Encoded(fmt.Sprintf("service/%0*d", maxLogBytes/20/2000, i), nil)
		many = append(many, tableset.Change{Key: r.Key, Resource: &r})
	}
	for v := c.version + 1; c.version < 2*maxLogVersions+40; v++ {
		c.publish(&tableset.Update{Cluster: cluster, Version: v, Reset: true, Common: many[v%2:]})
		c.publish(&tableset.Update{Cluster: cluster, Version: v + 1, Reset: true})
		v++
	}
	if c.logBytes > maxLogBytes {
		t.Errorf("%d bytes in the log", c.logBytes)
	}
}

func TestCountFlows(t *testing.T) {
	s, _ := published(t, ServerOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := s.server.CountFlows(ctx, "n0", nil); err == nil {
		t.Error("a node that is not there counted flows")
	}
	a := newAgent(t, "n0", FollowerOptions{CountFlows: func(ids []uint32) uint64 { return uint64(10 * len(ids)) }}, s)
	stop := a.run(t)
	a.wait(t, 11)
	n, err := s.server.CountFlows(ctx, "n0", []uint32{256, 257})
	if err != nil || n != 20 {
		t.Errorf("%d flows, %v", n, err)
	}
	stop()
	r := follow(t, s, "n1", &pb.Hello{})
	r.push()
	failed := make(chan error, 1)
	go func() {
		_, err := s.server.CountFlows(ctx, "n1", nil)
		failed <- err
	}()
	if m := r.next(); m.GetCountFlows() == nil {
		t.Errorf("got %v", m)
	}
	r.conn.Close()
	if err := <-failed; err == nil {
		t.Error("a node that went away counted flows")
	}
}

// TestOnState is told of what happens, in order.
func TestOnState(t *testing.T) {
	s := newSite(t, ServerOptions{Window: time.Millisecond})
	var mu sync.Mutex
	var got []string
	s.server.OnState(func(node string, st State) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %v %d", node, st.Connected, st.Refused))
	})
	told := func(want string) {
		t.Helper()
		eventually(t, want, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) > 0 && got[len(got)-1] == want
		})
	}
	w := newWorld(t, 1)
	s.server.Publish(w.update(0, w.commit(1)))
	r := follow(t, s, "n0", w.hello("n0", 11))
	r.next()
	told("n0 true 0")
	w.service("dns", 1)
	publish(s, w)
	r.nack(r.push())
	told("n0 true 12")
	w.service("dns", 2)
	publish(s, w)
	r.ack(r.push())
	told("n0 true 0")
	r.conn.Close()
	told("n0 false 0")
}

func TestClose(t *testing.T) {
	s, w := published(t, ServerOptions{})
	r := follow(t, s, "n0", w.hello("n0", w.version))
	r.next()
	s.server.Close()
	r.ends(codes.Unavailable)
	follow(t, s, "n0", &pb.Hello{}).ends(codes.Unavailable)
}

func TestFirstMessageThatIsNoHello(t *testing.T) {
	s, _ := published(t, ServerOptions{})
	r := dialRaw(t, s, "n0")
	r.answer(&pb.Answer{})
	go r.listen()
	r.ends(codes.InvalidArgument)
}

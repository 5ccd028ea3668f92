package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringway/control/ringwayv1"
)

// cidrsOf are the CIDRs that a node has, as its own agent knows them.
func cidrsOf(t *testing.T, l *Lab, host string) []string {
	t.Helper()
	client, err := l.Agent(host)
	must(t, err)
	defer client.Close()
	list, err := client.Nodes(testContext(t, 5*time.Second))
	must(t, err)
	for _, n := range list.GetItems() {
		if n.GetName() == host {
			return n.GetNodeCidrs()
		}
	}
	return nil
}

// TestNodesJoinByThemselves: nodes that nobody told the cluster of get CIDRs from the
// pool, which overlap with nobody's, stay over restarts, and are free once the node is
// deleted; their pods talk with those of others.
func TestNodesJoinByThemselves(t *testing.T) {
	l := agentLab(t, Options{})
	want := map[string]string{"node5": "10.200.128.0/24", "node6": "10.200.129.0/24"}
	for i, host := range []string{"node5", "node6"} {
		must(t, l.AddNode(testContext(t, 20*time.Second), host, netip.AddrFrom4([4]byte{192, 168, 0, byte(110 + i)})))
		if got := cidrsOf(t, l, host); !slices.Equal(got, []string{want[host]}) {
			t.Errorf("%s has %v, want %s", host, got, want[host])
		}
		must(t, l.StartPod(Pod{Name: "pod" + host[4:], Node: host}))
	}
	for _, c := range [][2]string{{"pod5", "pod6"}, {"pod6", "pod1"}, {"pod4", "pod5"}} {
		if _, err := l.WaitReachable(c[0], l.Address(c[1]), 5*time.Second); err != nil {
			t.Errorf("%s to %s: %v", c[0], c[1], err)
		}
	}
	for _, end := range []func(string) error{l.Stop, l.Kill} {
		must(t, end("node5"))
		must(t, l.Kill("ctrl1"))
		must(t, l.Start("ctrl1"))
		must(t, l.Start("node5"))
		waitConnected(t, l, "node5")
		if got := cidrsOf(t, l, "node5"); !slices.Equal(got, []string{want["node5"]}) {
			t.Errorf("after a restart node5 has %v", got)
		}
	}
	// A node that is deleted while it is away leaves its CIDR to the next one.
	must(t, l.DelPod("pod5"))
	must(t, l.Stop("node5"))
	must(t, l.DeleteObjects(testContext(t, 5*time.Second), &ringwayv1.ObjectKey{Kind: "Node", Name: "node5"}))
	must(t, l.AddNode(testContext(t, 20*time.Second), "node7", netip.MustParseAddr("192.168.0.117")))
	if got := cidrsOf(t, l, "node7"); !slices.Equal(got, []string{want["node5"]}) {
		t.Errorf("node7 has %v, want what node5 had", got)
	}
}

// waitConnected waits until a node's agent is connected to a controller.
func waitConnected(t *testing.T, l *Lab, host string) {
	t.Helper()
	waitFor(t, host+" is connected", 10*time.Second, func() bool {
		s, err := l.AgentStatus(testContext(t, 5*time.Second), host)
		return err == nil && s.GetController().GetConnected()
	})
}

// addressBook holds what endpoints were given, and finds an address that two have.
type addressBook struct {
	mu    sync.Mutex
	owner map[string]string // by address
	twice []string
}

func (b *addressBook) add(address, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if other, ok := b.owner[address]; ok && other != name {
		b.twice = append(b.twice, fmt.Sprintf("%s: %s and %s", address, other, name))
	}
	b.owner[address] = name
}

func (b *addressBook) remove(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.owner, address)
}

// TestAddressesAreGivenOnce adds endpoints without addresses, several at a time, while
// the agent and then the controller are killed in the middle: whoever asked again has
// one in the end, no two have the same, and all that is registered is attached.
func TestAddressesAreGivenOnce(t *testing.T) {
	const pods = 24
	l := agentLab(t, Options{Pods: DefaultPods()[:2]})
	var names []string
	for i := range pods {
		name := fmt.Sprintf("new%d", i)
		must(t, l.recordPod(Pod{Name: name, Node: "node1"}))
		must(t, l.makeHost(name, false))
		names = append(names, name)
	}
	book := &addressBook{owner: map[string]string{"10.200.0.1": "gateway", l.Address("pod1").String(): "pod1"}}
	var group sync.WaitGroup
	group.Go(func() {
		for i, name := range []string{"node1", "ctrl1", "node1"} {
			time.Sleep(time.Duration(150+100*i) * time.Millisecond)
			if err := l.Kill(name); err != nil {
				t.Error(err)
			}
			time.Sleep(50 * time.Millisecond)
			if err := l.Start(name); err != nil {
				t.Error(err)
			}
		}
	})
	inParallel(t, names, func(name string) error { return l.addUntilThere(t.Context(), name, book) })
	group.Wait()
	checkBook(t, l, book, pods+2)

	// Half of them go and come again: an address that is free may be given again, but
	// no earlier than that.
	inParallel(t, names[:pods/2], func(name string) error {
		p, _ := l.pod(name)
		book.remove(p.Address.String())
		return l.DetachPod(name)
	})
	inParallel(t, names[:pods/2], func(name string) error { return l.addUntilThere(t.Context(), name, book) })
	checkBook(t, l, book, pods+2)
	if _, err := l.WaitReachable(names[pods-1], l.Address("pod2"), 5*time.Second); err != nil {
		t.Error(err)
	}
	checkHealthy(t, l)
}

// addUntilThere asks for an endpoint until it is there.
func (l *Lab) addUntilThere(ctx context.Context, name string, book *addressBook) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := l.Agent("node1")
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		e, err := client.AddEndpoint(ctx, &ringwayv1.AddEndpointRequest{Name: name, Netns: l.Netns(name)})
		if err == nil {
			book.add(e.GetAddress(), name)
			address, err := netip.ParseAddr(e.GetAddress())
			if err != nil {
				return err
			}
			return l.changePod(name, func(p *Pod) { p.Address = address })
		}
		if wait := pause(ctx); wait != nil {
			return fmt.Errorf("add %s: %w", name, err)
		}
	}
}

// checkBook wants no address twice, and agent and controller to know the same
// endpoints of node1, as many as there are owners but for the gateway.
func checkBook(t *testing.T, l *Lab, book *addressBook, owners int) {
	t.Helper()
	if len(book.twice) > 0 || len(book.owner) != owners {
		t.Errorf("%d owners, want %d; given twice: %q", len(book.owner), owners, book.twice)
	}
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	attached, err := client.Endpoints(testContext(t, 5*time.Second))
	must(t, err)
	c, err := l.Objects("ctrl1")
	must(t, err)
	defer c.Close()
	registered, err := c.Get(testContext(t, 5*time.Second), "Endpoint", "default", "")
	must(t, err)
	if len(attached.GetItems()) != owners-1 {
		t.Errorf("the agent has %d endpoints, want %d", len(attached.GetItems()), owners-1)
	}
	documents := map[string]string{}
	for _, o := range registered {
		documents[o.GetKey().GetName()] = o.GetDocument()
	}
	for _, e := range attached.GetItems() {
		if book.owner[e.GetAddress()] != e.GetName() {
			t.Errorf("%s has %s, which was given to %q", e.GetName(), e.GetAddress(), book.owner[e.GetAddress()])
		}
		if !strings.Contains(documents[e.GetName()], `"`+e.GetAddress()+`"`) {
			t.Errorf("%s with %s is registered as %q", e.GetName(), e.GetAddress(), documents[e.GetName()])
		}
	}
}

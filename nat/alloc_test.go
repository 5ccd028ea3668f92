package nat

import (
	"slices"
	"testing"

	"ringway/packet"
)

// testWorker is an allocator with a conntrack of maps.
type testWorker struct {
	*Allocator
	tuples  map[packet.Tuple]FlowID
	flows   map[FlowID]testFlow
	evicted []FlowID
	next    FlowID
}

type testFlow struct {
	original packet.Tuple
	Grant
}

func newTestWorker(t testing.TB, o *Owners, worker int) *testWorker {
	t.Helper()
	return newTestWorkerWith(t, AllocatorOptions{Owners: o, Worker: worker})
}

func newTestWorkerWith(t testing.TB, o AllocatorOptions) *testWorker {
	t.Helper()
	w := &testWorker{tuples: map[packet.Tuple]FlowID{}, flows: map[FlowID]testFlow{}}
	o.Taken = func(t packet.Tuple) FlowID { return w.tuples[t] }
	o.Evict = func(id FlowID) {
		w.evicted = append(w.evicted, id)
		w.remove(id)
	}
	a, err := NewAllocator(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Allocator = a
	return w
}

func (w *testWorker) try(q Request) (FlowID, Result) {
	g, result := w.Take(q)
	if result != OK {
		return 0, result
	}
	w.next++
	w.tuples[g.Reply] = w.next
	w.flows[w.next] = testFlow{q.Tuple, g}
	w.Bind(g, w.next)
	return w.next, OK
}

// begin begins a flow that has to get a port, of all ports of the first address.
func (w *testWorker) begin(t testing.TB, tu packet.Tuple) FlowID {
	t.Helper()
	id, result := w.try(request(tu, PortRange{1, 65535}))
	if result != OK {
		t.Fatalf("%+v: %v", tu, result)
	}
	return id
}

func (w *testWorker) remove(id FlowID) {
	delete(w.tuples, w.flows[id].Reply)
	delete(w.flows, id)
	w.Removed(id)
}

func (w *testWorker) port(id FlowID) uint16 { return w.flows[id].Port }

func snatAddr(index int) uint32 { return 0xc0a80064 + uint32(index) }

// tuple of a pod's flow from a port to a destination that is named by a number.
func tuple(dst uint32, srcPort uint16, proto uint8) packet.Tuple {
	t := packet.Tuple{Src: 0x0ac80003, Dst: 0xc6336400 + dst, SrcPort: srcPort, DstPort: 443, Proto: proto}
	if proto == packet.ProtoICMP {
		t.DstPort = 0
	}
	return t
}

func request(t packet.Tuple, ranges ...PortRange) Request {
	q := Request{Tuple: t, Owner: 1, Now: 1e15}
	for i, r := range ranges {
		q.Sources = append(q.Sources, Source{snatAddr(i), i, r.Low, r.High})
	}
	return q
}

func TestAllocatorOptions(t *testing.T) {
	o := newOwners(t, 1)
	for _, worker := range []int{-1, MaxWorkers, 1000} {
		if _, err := NewAllocator(AllocatorOptions{Owners: o, Worker: worker}); err == nil {
			t.Errorf("worker %d: no error", worker)
		}
	}
}

func TestWhatCannotHaveAPort(t *testing.T) {
	o := newOwners(t, 1)
	configure(t, o, 0, []PortRange{{1, 65535}})
	w := newTestWorker(t, o, 0)
	for name, q := range map[string]Request{
		"no ports":      request(tuple(1, 0, packet.ProtoGRE), PortRange{1, 65535}),
		"no source":     request(tuple(1, 5, packet.ProtoTCP)),
		"empty range":   request(tuple(1, 5, packet.ProtoTCP), PortRange{10, 9}),
		"port 0":        request(tuple(1, 5, packet.ProtoTCP), PortRange{0, 0}),
		"no such index": {Tuple: tuple(1, 5, packet.ProtoTCP), Sources: []Source{{1, 1, 1, 65535}, {1, -1, 1, 65535}}},
	} {
		if g, result := w.Take(q); result != Exhausted {
			t.Errorf("%s: %+v, %v", name, g, result)
		}
	}
}

// RFC 4787 REQ-1, RFC 5382 REQ-1, RFC 5508 REQ-1a.
func TestEndpointIndependentMapping(t *testing.T) {
	for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoSCTP} {
		o := newOwners(t, 1)
		configure(t, o, 0, []PortRange{{1, 65535}})
		w := newTestWorker(t, o, 0)
		first := w.begin(t, tuple(1, 5100, proto))
		for dst := range uint32(50) {
			tu := tuple(2+dst, 5100, proto)
			tu.Src += dst % 2 * 256
			id := w.begin(t, tu)
			if same := w.port(id) == w.port(first); same != (dst%2 == 0) {
				t.Errorf("proto %d, destination %d: port %d, the first is %d", proto, dst, w.port(id), w.port(first))
			}
		}
		class, _ := ClassOf(proto)
		if c := w.Counters(class); c.Mappings != 2 || c.Created != 2 || c.EIMBroken != 0 || c.Overlapped() != 0 {
			t.Errorf("proto %d: %+v", proto, c)
		}
		if w.evicted != nil {
			t.Errorf("evicted %v", w.evicted)
		}
	}
}

// The mapping stays while any flow of it is there, closed ones included, and the
// port is free when the last is gone.
func TestMappingLivesAsLongAsItsFlows(t *testing.T) {
	o := newOwners(t, 1)
	configure(t, o, 0, []PortRange{{40000, 50000}})
	w := newTestWorker(t, o, 9)
	a, b := w.begin(t, tuple(1, 5100, 6)), w.begin(t, tuple(2, 5100, 6))
	port := w.port(a)
	state := func(want uint8) {
		t.Helper()
		if got := o.State(0, ClassTCP, port); got != want {
			t.Errorf("state %d, want %d", got, want)
		}
	}
	state(Used(9))
	w.Closed(a, 1e15)
	w.Closed(a, 1e15)
	state(Used(9))
	w.Closed(b, 1e15)
	state(Held(9))
	c := w.begin(t, tuple(3, 5100, 6))
	state(Used(9))
	if w.port(c) != port {
		t.Error("the endpoint got another port while its own was held")
	}
	w.remove(c)
	state(Held(9))
	for range 2 {
		if !w.Reopened(a) {
			t.Error("not reopened")
		}
	}
	state(Used(9))
	w.remove(a)
	state(Held(9))
	w.remove(b)
	state(StateFree)
	if c := w.Counters(ClassTCP); c.Mappings != 0 || c.Removed != 1 || c.Ports != 0 {
		t.Errorf("%+v", c)
	}
	w.Removed(b)
	w.Closed(b, 1e15)
	if !w.Reopened(b) {
		t.Error("a flow without a port of ours cannot be reopened")
	}
	state(StateFree)
}

func TestCancelledGrantLeavesNothing(t *testing.T) {
	o := newOwners(t, 1)
	configure(t, o, 0, []PortRange{{40000, 50000}})
	w := newTestWorker(t, o, 0)
	g, result := w.Take(request(tuple(1, 5100, 6), PortRange{40000, 50000}))
	if result != OK || o.Count(0, ClassTCP).Used != 1 {
		t.Fatalf("%v, %+v", result, o.Count(0, ClassTCP))
	}
	w.Cancel(g)
	if n := o.Count(0, ClassTCP); n.Used != 0 || n.Free != 10001 {
		t.Errorf("%+v", n)
	}
	if c := w.Counters(ClassTCP); c.Mappings != 0 || len(w.TopDestinations(9)) != 0 {
		t.Errorf("%+v", c)
	}
}

// A flow whose end was not told does not keep its port when its number is used
// again.
func TestBindOverAFlow(t *testing.T) {
	o := newOwners(t, 1)
	configure(t, o, 0, []PortRange{{40000, 50000}})
	w := newTestWorker(t, o, 0)
	w.begin(t, tuple(1, 5100, 6))
	w.next--
	w.begin(t, tuple(1, 5101, 6))
	if n := o.Count(0, ClassTCP); n.Used != 1 || w.Counters(ClassTCP).Mappings != 1 {
		t.Errorf("%+v, %+v", n, w.Counters(ClassTCP))
	}
}

// RFC 4787 REQ-3a, as long as there is a port of the kind.
func TestPortClassIsPreserved(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{1014, 1033} // ten of each kind
	configure(t, o, 0, []PortRange{r})
	w := newTestWorker(t, o, 0)
	system, user := 0, 0
	for i := range uint16(20) {
		src := uint16(500)
		if i >= 5 {
			src = 50000
		}
		q := request(tuple(1, src+i, 17), r)
		q.StrictEIM = true
		id, result := w.try(q)
		if result != OK {
			t.Fatalf("flow %d: %v", i, result)
		}
		if w.port(id) < 1024 {
			system++
		} else {
			user++
		}
		if wantUser := max(0, min(10, int(i)-4)); user != wantUser || system != int(i)+1-wantUser {
			t.Fatalf("after flow %d: %d system ports, %d user ports", i, system, user)
		}
	}
	if id, result := w.try(request(tuple(1, 600, 17), r)); result != Exhausted {
		t.Errorf("%d, %v", id, result)
	}
}

// RFC 4787 REQ-2: a pod has one address of the pool until there is no port of it
// left; then another.
func TestPairedPooling(t *testing.T) {
	const addresses = 5
	o := newOwners(t, addresses)
	ranges := make([]PortRange, addresses)
	for i := range ranges {
		ranges[i] = PortRange{2000, 2009}
		configure(t, o, i, ranges[i:i+1])
	}
	var firsts [addresses]int
	for pod := range uint32(500) {
		w := newTestWorker(t, o, 0)
		first := -1
		var ids []FlowID
		for i := range uint16(12) {
			q := request(tuple(1, 5000+i, 17), ranges...)
			q.Tuple.Src += pod << 3
			q.StrictEIM = true
			// The order of the pool does not matter.
			slices.Reverse(q.Sources[:int(i)%addresses+1])
			id, result := w.try(q)
			if result != OK {
				t.Fatalf("pod %d flow %d: %v", pod, i, result)
			}
			ids = append(ids, id)
			if first < 0 {
				first = w.flows[id].Index
				firsts[first]++
			}
			if same := w.flows[id].Index == first; same != (i < 10) {
				t.Fatalf("pod %d flow %d: address %d, the first was %d", pod, i, w.flows[id].Index, first)
			}
		}
		for _, id := range ids {
			w.remove(id)
		}
	}
	for i, n := range firsts {
		if n < 60 || n > 140 {
			t.Errorf("address %d is the first of %d pods of 500: %v", i, n, firsts)
		}
	}
}

// With one address less, only the pods move that had it.
func TestPairingOutlastsAChangeOfThePool(t *testing.T) {
	pool := make([]Source, 6)
	for i := range pool {
		pool[i].Addr = snatAddr(i)
	}
	for pod := range uint32(1000) {
		before := paired(pod, pool)
		after := paired(pod, pool[:5])
		if before != 5 && before != after {
			t.Errorf("pod %d moved from %d to %d", pod, before, after)
		}
	}
}

func TestPortsOfTheHostAreNeverHandedOut(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{8000, 8999}
	host := []uint16{8000, 8472, 8500, 8999}
	configure(t, o, 0, []PortRange{r}, host...)
	w := newTestWorker(t, o, 0)
	for i := range 996 {
		id, result := w.try(request(tuple(1, 10000+uint16(i), 17), r))
		if result != OK || slices.Contains(host, w.port(id)) {
			t.Fatalf("flow %d: %v, port %d", i, result, w.port(id))
		}
	}
	if _, result := w.try(request(tuple(1, 9, 17), r)); result != Exhausted {
		t.Error(result)
	}
}

func TestPortQuota(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{2000, 2999}
	configure(t, o, 0, []PortRange{r})
	w := newTestWorkerWith(t, AllocatorOptions{Owners: o, MaxPortsPerOwner: 3})
	try := func(owner uint32, dst uint32, port uint16, want Result) FlowID {
		t.Helper()
		q := request(tuple(dst, port, 6), r)
		q.Owner = owner
		q.Tuple.Src += owner << 8
		id, result := w.try(q)
		if result != want {
			t.Errorf("owner %d: %v, want %v", owner, result, want)
		}
		return id
	}
	a := try(7, 1, 1, OK)
	try(7, 1, 2, OK)
	try(7, 1, 3, OK)
	try(7, 1, 4, OverQuota)
	try(7, 2, 1, OK) // not one port more
	try(8, 1, 1, OK)
	w.Closed(a, 1e15)
	try(7, 1, 4, OverQuota) // its other flow is live
	b := try(7, 3, 2, OK)
	w.remove(b)
	w.remove(a)
	c := try(7, 5, 3, OK)
	w.Closed(c, 1e15)
	try(7, 1, 4, OverQuota)
	for i := range uint16(100) {
		try(1<<24+uint32(i%2), 1, i, OK) // no endpoint, no quota
	}
	if c := w.Counters(ClassTCP); c.QuotaRefused != 3 || c.Refused != 0 {
		t.Errorf("%+v", c)
	}
}

// A port whose flows are all closed does not count, and counts again with the next.
func TestPortQuotaCountsLivePorts(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{2000, 2999}
	configure(t, o, 0, []PortRange{r})
	w := newTestWorkerWith(t, AllocatorOptions{Owners: o, MaxPortsPerOwner: 1})
	a := w.begin(t, tuple(1, 1, 6))
	w.Closed(a, 1e15)
	b := w.begin(t, tuple(1, 2, 6))
	if _, result := w.try(request(tuple(2, 1, 6), r)); result != OverQuota {
		t.Errorf("the held port was used again: %v", result)
	}
	w.remove(b)
	if id := w.begin(t, tuple(2, 1, 6)); w.port(id) != w.port(a) {
		t.Error("the endpoint got another port")
	}
}

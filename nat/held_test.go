package nat

import (
	"math/rand/v2"
	"testing"

	"ringway/packet"
)

// A worker with every port of a range, of which some are closed in random order.
func closeSome(t *testing.T, o *Owners, worker, n int, r PortRange) (w *testWorker, order []uint16) {
	t.Helper()
	w = newTestWorker(t, o, worker)
	var ids []FlowID
	for i := 0; ; i++ {
		id, result := w.try(request(manyClients(i+worker*10000, 1), r))
		if result != OK {
			break
		}
		ids = append(ids, id)
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for i, id := range ids[:n] {
		order = append(order, w.port(id))
		w.Closed(id, 1e15+int64(i)*1e6)
	}
	return w, order
}

func TestHeldPortsAreReusedOldestFirst(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{40000, 40999}
	configure(t, o, 0, []PortRange{r})
	w, order := closeSome(t, o, 0, 700, r)
	for i, want := range order {
		id, result := w.try(request(manyClients(20000+i, 1), r))
		if result != OK || w.port(id) != want {
			t.Fatalf("flow %d gets port %d, %v, want %d", i, w.port(id), result, want)
		}
		if len(w.evicted) != i+1 {
			t.Fatalf("%d flows were evicted after %d", len(w.evicted), i+1)
		}
	}
	if _, result := w.try(request(manyClients(30000, 1), r)); result != Exhausted {
		t.Error(result)
	}
}

// Free ports come first, and a held one keeps its flow meanwhile.
func TestFreePortsComeBeforeHeldOnes(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{40000, 40099}
	configure(t, o, 0, []PortRange{r})
	w := newTestWorker(t, o, 0)
	for i := range 100 {
		id, result := w.try(request(manyClients(i, 1), r))
		if result != OK || w.evicted != nil {
			t.Fatalf("flow %d: %v, %v were evicted", i, result, w.evicted)
		}
		if i < 50 {
			w.Closed(id, 1e15)
		}
	}
	if n := o.Count(0, ClassTCP); n.Held != 50 || n.Used != 50 {
		t.Errorf("%+v", n)
	}
}

func TestHeldPortsAreStolenOldestFirst(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{40000, 40999}
	configure(t, o, 0, []PortRange{r})
	victim, order := closeSome(t, o, 0, 700, r)
	thief := newTestWorker(t, o, 1)
	for i, want := range order {
		id, result := thief.try(request(manyClients(20000+i, 1), r))
		if result != OK || thief.port(id) != want {
			t.Fatalf("flow %d gets port %d, %v, want %d", i, thief.port(id), result, want)
		}
		if victim.StillOurs(0, ClassTCP, want) || !thief.StillOurs(0, ClassTCP, want) {
			t.Fatalf("port %d is not the thief's", want)
		}
	}
	if c := thief.Counters(ClassTCP); c.Stolen != 700 || victim.evicted != nil {
		t.Errorf("%+v, %d evicted", c, len(victim.evicted))
	}
	if _, result := thief.try(request(manyClients(30000, 1), r)); result != Exhausted {
		t.Error(result)
	}
	// The victim's flows cannot go on, and take nothing with them.
	for id, f := range victim.flows {
		if victim.StillOurs(0, ClassTCP, f.Port) {
			continue
		}
		if victim.Reopened(id) {
			t.Fatalf("flow %d goes on without its port %d", id, f.Port)
		}
		victim.remove(id)
	}
	if n := o.Count(0, ClassTCP); n.Used != 1000 {
		t.Errorf("%+v", n)
	}
}

// Ports that are held while others are stolen are younger than those.
func TestStealingWhileMoreAreHeld(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{40000, 40999}
	configure(t, o, 0, []PortRange{r})
	victim, order := closeSome(t, o, 0, 100, r)
	thief := newTestWorker(t, o, 1)
	now := int64(1e15 + 200e6)
	for i := 0; i < 2000; i++ {
		for id, f := range victim.flows {
			if victim.StillOurs(0, ClassTCP, f.Port) && o.State(0, ClassTCP, f.Port) == Used(0) {
				now += 1e6
				victim.Closed(id, now)
				order = append(order, f.Port)
				break
			}
		}
		if i == len(order) {
			break
		}
		id, result := thief.try(request(manyClients(20000+i, 1), r))
		if result != OK || thief.port(id) != order[i] {
			t.Fatalf("flow %d gets port %d, %v, want %d", i, thief.port(id), result, order[i])
		}
	}
	if len(order) != 1000 {
		t.Errorf("%d ports", len(order))
	}
}

// Times of 32 bits wrap around.
func TestOldestAcrossTheWrap(t *testing.T) {
	var o oldestHeld
	for i := range uint32(200) {
		o.add(heldPort{uint16(i + 1), i*7%200 - 100})
	}
	for i := range o.ports {
		if want := uint32(63-i) - 100; o.ports[i].at != want {
			t.Errorf("%d: held at %d, want %d", i, int32(o.ports[i].at), int32(want))
		}
	}
}

// Flows that have no port of ours stand in the way of the oldest ones: the thief
// takes what is left.
func TestStealingPastForeignFlows(t *testing.T) {
	for _, worker := range []int{0, 1} { // its own held ports, or another's
		o := newOwners(t, 1)
		r := PortRange{40000, 40199}
		configure(t, o, 0, []PortRange{r})
		w, order := closeSome(t, o, 0, 200, r)
		if worker == 1 {
			w = newTestWorker(t, o, 1)
		}
		q := request(manyClients(30000, 2), r) // not where the closed flows went
		foreign := func(port uint16) packet.Tuple {
			reply := q.Tuple.Reverse()
			reply.Dst, reply.DstPort = snatAddr(0), port
			return reply
		}
		for i, port := range order[:150] {
			w.tuples[foreign(port)] = FlowID(1000000 + i)
		}
		id, result := w.try(q)
		if result != OK || w.port(id) == 0 || w.tuples[foreign(w.port(id))] != id {
			t.Errorf("worker %d: %v, port %d", worker, result, w.port(id))
		}
		for _, port := range order[150:] {
			w.tuples[foreign(port)] = 2000000
		}
		q.Tuple.SrcPort++
		if id, result := w.try(q); result != Exhausted {
			t.Errorf("worker %d: %v, port %d, though the tuple of every port is taken", worker, result, w.port(id))
		}
		if n := o.Count(0, ClassTCP); n.Held != 199 {
			t.Errorf("worker %d: %+v", worker, n)
		}
	}
}

package nat

import (
	"fmt"
	"testing"

	"ringway/packet"
)

// flatWorker is an allocator whose conntrack allocates nothing: a hash table of
// reply tuples that is never full.
type flatWorker struct {
	*Allocator
	tuples  []packet.Tuple // by slot
	flows   []FlowID
	replies []packet.Tuple // by flow
	unused  []FlowID
}

func newFlatWorker(t testing.TB, o *Owners, worker, flows int) *flatWorker {
	t.Helper()
	size := 1024
	for size < 2*flows {
		size *= 2
	}
	w := &flatWorker{
		tuples: make([]packet.Tuple, size), flows: make([]FlowID, size), replies: make([]packet.Tuple, flows+1),
	}
	for id := FlowID(flows); id > 0; id-- {
		w.unused = append(w.unused, id)
	}
	a, err := NewAllocator(AllocatorOptions{
		Owners: o, Worker: worker,
		Taken: func(t packet.Tuple) FlowID { return w.flows[w.find(t)] },
		Evict: func(id FlowID) { w.remove(id) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Allocator = a
	return w
}

func (w *flatWorker) home(t packet.Tuple) int {
	h := (mixer{5, 6}).hash(uint64(t.Src)<<32|uint64(t.Dst), uint64(t.SrcPort)<<24|uint64(t.DstPort)<<8|uint64(t.Proto))
	return int(h) & (len(w.tuples) - 1)
}

func (w *flatWorker) find(t packet.Tuple) int {
	i := w.home(t)
	for w.flows[i] != 0 && w.tuples[i] != t {
		i = (i + 1) & (len(w.tuples) - 1)
	}
	return i
}

func (w *flatWorker) try(q Request) (FlowID, Result) {
	g, result := w.Take(q)
	if result != OK {
		return 0, result
	}
	id := w.unused[len(w.unused)-1]
	w.unused = w.unused[:len(w.unused)-1]
	i := w.find(g.Reply)
	w.tuples[i], w.flows[i], w.replies[id] = g.Reply, id, g.Reply
	w.Bind(g, id)
	return id, OK
}

func (w *flatWorker) remove(id FlowID) {
	i := w.find(w.replies[id])
	w.flows[i] = 0
	for j := (i + 1) & (len(w.tuples) - 1); w.flows[j] != 0; j = (j + 1) & (len(w.tuples) - 1) {
		if home := w.home(w.tuples[j]); (j-home)&(len(w.tuples)-1) >= (j-i)&(len(w.tuples)-1) {
			w.tuples[i], w.flows[i] = w.tuples[j], w.flows[j]
			w.flows[j] = 0
			i = j
		}
	}
	w.unused = append(w.unused, id)
	w.Removed(id)
}

// In steady state flows come and go and nothing is allocated: not where ports are
// free, reused, held, stolen, shared or refused.
func TestAllocatorDoesNotAllocate(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{40000, 40999}
	configure(t, o, 0, []PortRange{r})
	a, b := newFlatWorker(t, o, 0, 8000), newFlatWorker(t, o, 1, 8000)
	sources := []Source{{snatAddr(0), 0, r.Low, r.High}}
	refused := 0
	take := func(w *flatWorker, from, n int, dst uint32) {
		for i := from; i < from+n; i++ {
			q := Request{Tuple: manyClients(i, dst), Sources: sources, Owner: 3, Now: 1e15}
			if _, result := w.try(q); result != OK {
				refused++
			}
		}
	}
	all := func(w *flatWorker, do func(w *flatWorker, id FlowID)) {
		for id := range FlowID(len(w.replies)) {
			if f := w.Allocator.flows.find(uint32(id)); f != nil && f.mapping != 0 {
				do(w, id)
			}
		}
	}
	shut := func(w *flatWorker, id FlowID) { w.Closed(id, 1e15) }
	drop := func(w *flatWorker, id FlowID) { w.Reopened(id); w.remove(id) }
	round := func() {
		take(a, 0, 900, 1) // free
		all(a, shut)
		take(a, 0, 300, 2)    // the endpoint's own, which were held
		take(a, 2000, 200, 1) // free, then held
		take(b, 0, 600, 1)    // held by another
		take(b, 3000, 600, 2) // shared, and then none
		take(b, 0, 600, 1)
		all(a, drop)
		all(b, drop)
	}
	for range 30 { // until every chunk of ports and every record is there
		round()
	}
	refused = 0
	before := b.Counters(ClassTCP)
	if n := testing.AllocsPerRun(20, round); n != 0 {
		t.Errorf("%v allocations in a round", n)
	}
	after := b.Counters(ClassTCP)
	if refused == 0 || after.Stolen-before.Stolen < 21*400 || o.Count(0, ClassTCP).Free != 1000 {
		t.Errorf("not all was tested: %d refused, %+v", refused, after)
	}
}

// What a flow costs to take a port and give it back, by how full the range is and
// by how many destinations the flows there go to.
func BenchmarkTake(b *testing.B) {
	const ports = 32768
	for _, destinations := range []int{1, 10000} {
		for _, fill := range []float64{1, 50, 99, 100} {
			b.Run(fmt.Sprintf("fill=%v%%/destinations=%d", fill, destinations), func(b *testing.B) {
				w := filled(b, int(ports*fill/100), destinations)
				n := 0
				for b.Loop() {
					// At 100 % and one destination this is refused, and else shared.
					if id, result := w.try(fillRequestOf(50000+n%4096, uint32(n%destinations))); result == OK {
						w.remove(id)
					}
					n++
				}
			})
		}
	}
}

// Worse than that: 99 % of the ports are taken towards the destination, and none is
// free; and a range of which another worker holds every port.
func BenchmarkTakeWhenScarce(b *testing.B) {
	b.Run("shared", func(b *testing.B) {
		w := filled(b, 32768, 1)
		for i := range 32768 * 99 / 100 {
			w.try(fillRequestOf(70000+i, 1))
		}
		n := 0
		for b.Loop() {
			id, result := w.try(fillRequestOf(200000+n%4096, 1))
			if result != OK {
				b.Fatal(result)
			}
			w.remove(id)
			n++
		}
	})
	b.Run("stolen", func(b *testing.B) {
		o := newOwners(b, 1)
		configure(b, o, 0, []PortRange{fillRange})
		workers := [2]*flatWorker{newFlatWorker(b, o, 0, 40000), newFlatWorker(b, o, 1, 40000)}
		now := int64(1e15)
		take := func(w *flatWorker, n int) {
			q := fillRequestOf(n%40000, 1)
			q.Now = now
			id, result := w.try(q)
			if result != OK {
				b.Fatal(result)
			}
			now += 1e6
			w.Closed(id, now)
		}
		for i := range 32768 {
			take(workers[0], i)
		}
		n := 0
		for b.Loop() {
			// Each worker finds that all ports are the other's.
			take(workers[1-n/32768%2], 40000+n)
			n++
		}
	})
}

func filled(b *testing.B, n, destinations int) *flatWorker {
	b.Helper()
	o := newOwners(b, 1)
	configure(b, o, 0, []PortRange{fillRange})
	w := newFlatWorker(b, o, 0, 100000)
	for i := range n {
		if _, result := w.try(fillRequestOf(i, uint32(i%destinations))); result != OK {
			b.Fatal(result)
		}
	}
	return w
}

var benchSources = []Source{{snatAddr(0), 0, fillRange.Low, fillRange.High}}

func fillRequestOf(i int, dst uint32) Request {
	return Request{Tuple: manyClients(i, dst), Sources: benchSources, Now: 1e15}
}

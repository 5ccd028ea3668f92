package nat

import (
	"math/rand/v2"
	"sync"
	"testing"

	"ringway/packet"
)

// manyClients makes flows to one destination from as many endpoints as are asked
// for.
func manyClients(i int, dst uint32) packet.Tuple {
	return packet.Tuple{
		Src: 0x0ac80000 + uint32(i%250), SrcPort: uint16(1024 + i/250), Dst: dst, DstPort: 443, Proto: packet.ProtoTCP,
	}
}

var fillRange = PortRange{32768, 65535}

func fillRequest(i int, dst uint32) Request { return request(manyClients(i, dst), fillRange) }

// Every port of the range is used before a flow is refused, whether the clients
// are one worker's or several workers', one after the other or at once.
func TestFill(t *testing.T) {
	const ports = 32768
	for name, c := range map[string]struct {
		workers int
		atOnce  bool
	}{"one worker": {1, false}, "two workers": {2, false}, "two at once": {2, true}, "five at once": {5, true}} {
		t.Run(name, func(t *testing.T) {
			o := newOwners(t, 1)
			configure(t, o, 0, []PortRange{fillRange})
			var workers []*testWorker
			for i := range c.workers {
				workers = append(workers, newTestWorker(t, o, i))
			}
			fill := func(i int) {
				for n := i; ; n += c.workers {
					if !c.atOnce && n >= ports {
						return
					}
					if _, result := workers[i].try(fillRequest(n, 1)); result != OK {
						return
					}
				}
			}
			var wg sync.WaitGroup
			for i := range workers {
				if c.atOnce {
					wg.Go(func() { fill(i) })
				} else {
					fill(i)
				}
			}
			wg.Wait()

			seen := map[uint16]bool{}
			for _, w := range workers {
				for _, f := range w.flows {
					if seen[f.Port] || f.Port < 32768 {
						t.Fatalf("port %d was given twice, or is out of range", f.Port)
					}
					seen[f.Port] = true
				}
			}
			if n := o.Count(0, ClassTCP); len(seen) != ports || n != (PortCounts{Host: 32768, Used: ports}) {
				t.Fatalf("%d ports in use; %+v", len(seen), n)
			}
			refused := func() {
				t.Helper()
				for i, w := range workers {
					if id, result := w.try(fillRequest(50000+i, 1)); result != Exhausted {
						t.Fatalf("worker %d: %v on port %d", i, result, w.port(id))
					}
				}
			}
			refused()
			// Closed or gone, a port serves again at once, and every worker.
			ended := map[*testWorker]map[FlowID]bool{}
			for _, w := range workers {
				ended[w] = map[FlowID]bool{}
			}
			for _, end := range []func(w *testWorker, id FlowID){
				func(w *testWorker, id FlowID) { w.Closed(id, 1e15) },
				func(w *testWorker, id FlowID) { w.remove(id) },
			} {
				for i, w := range workers {
					for other := range workers {
						from := workers[(i+other)%len(workers)]
						id := from.anyFlowBut(ended[from])
						if id == 0 {
							continue // the others were faster
						}
						port := from.port(id)
						end(from, id)
						ended[from][id] = true
						got, result := w.try(fillRequest(60000+i, 1))
						if result != OK || w.port(got) != port {
							t.Fatalf("port %d has ended, and worker %d gets %d, %v", port, i, w.port(got), result)
						}
						refused()
					}
				}
			}
		})
	}
}

// anyFlowBut gives a flow that is not among these; 0 if there is none.
func (w *testWorker) anyFlowBut(not map[FlowID]bool) FlowID {
	for id := range w.flows {
		if !not[id] {
			return id
		}
	}
	return 0
}

// Another destination has all the ports again: they are shared, each worker's by
// its own flows, and every last one of them.
func TestFillOfSeveralDestinations(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{40000, 41999}
	configure(t, o, 0, []PortRange{r})
	a, b := newTestWorker(t, o, 0), newTestWorker(t, o, 1)
	for i := range 700 {
		if _, result := a.try(request(manyClients(i, 1), r)); result != OK {
			t.Fatal(result)
		}
	}
	n := 0
	for ; ; n++ {
		if _, result := b.try(request(manyClients(n, 1), r)); result != OK {
			break
		}
	}
	if n != 1300 {
		t.Fatalf("the second worker has %d ports", n)
	}
	for dst := uint32(2); dst < 6; dst++ {
		for w, want := range map[*testWorker]int{a: 700, b: 1300} {
			n := 0
			for i := 5000; ; i++ {
				if _, result := w.try(request(manyClients(i+int(dst)*7000, dst), r)); result != OK {
					break
				}
				n++
			}
			if n != want {
				t.Errorf("destination %d: %d flows on %d ports", dst, n, want)
			}
		}
	}
	if c := b.Counters(ClassTCP); c.Overlapped() != 4*1300 || c.Ports != 1300 {
		t.Errorf("%+v", c)
	}
	top := b.TopDestinations(3)
	if len(top) != 3 || top[0] != (Destination{Addr: 1, Port: 443, Class: ClassTCP, Flows: 1300}) {
		t.Errorf("%+v", top)
	}
	// A strict rule does not share, and refuses.
	q := request(manyClients(60000, 9), r)
	q.StrictEIM = true
	if _, result := b.try(q); result != Exhausted {
		t.Error(result)
	}
}

// Of the flows to one destination whose ports are in use by others, the one that
// was closed first makes way.
func TestClosedFlowOnASharedPortMakesWay(t *testing.T) {
	o := newOwners(t, 1)
	r := PortRange{40000, 40299}
	configure(t, o, 0, []PortRange{r})
	w := newTestWorker(t, o, 0)
	var ids []FlowID
	for dst := range uint32(2) {
		for i := range 300 {
			id, result := w.try(request(manyClients(i+int(dst)*1000, dst), r))
			if result != OK {
				t.Fatal(result)
			}
			if dst == 1 {
				ids = append(ids, id)
			}
		}
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for _, id := range ids {
		w.Closed(id, 1e15)
	}
	for i, id := range ids {
		port := w.port(id)
		got, result := w.try(request(manyClients(5000+i, 1), r))
		if result != OK || w.port(got) != port || len(w.evicted) != i+1 || w.evicted[i] != id {
			t.Fatalf("flow %d: %v, port %d, want %d", i, result, w.port(got), port)
		}
	}
	if _, result := w.try(request(manyClients(9000, 1), r)); result != Exhausted {
		t.Error(result)
	}
}

// RFC 7857 section 9, RFC 6056: what one flow gets says nothing about the next.
func TestPortsAreRandom(t *testing.T) {
	const bins, perBin, flows = 64, 512, 12800
	for name, fill := range map[string]int{"empty": 0, "half full": 16384} {
		o := newOwners(t, 1)
		configure(t, o, 0, []PortRange{fillRange})
		w := newTestWorker(t, o, 0)
		for i := range fill {
			w.try(fillRequest(i, 1))
		}
		var free, got [bins]float64
		for port := 32768; port < 65536; port++ {
			if o.State(0, ClassTCP, uint16(port)) == StateFree {
				free[(port-32768)/perBin]++
			}
		}
		upwards, last := 0, uint16(0)
		for i := range flows {
			id, _ := w.try(fillRequest(40000+i, 1))
			port := w.port(id)
			got[(int(port)-32768)/perBin]++
			if port > last {
				upwards++
			}
			last = port
			w.remove(id) // so that all stay as likely
		}
		chi := 0.0
		for i := range bins {
			want := flows * free[i] / float64(32768-fill)
			chi += (got[i] - want) * (got[i] - want) / want
		}
		// 63 degrees of freedom: above 160 once in 10^10 times.
		if chi > 160 {
			t.Errorf("%s: chi-square is %.1f: %v", name, chi, got)
		}
		if upwards < flows*45/100 || upwards > flows*55/100 {
			t.Errorf("%s: %d of %d ports are higher than the one before", name, upwards, flows)
		}
		t.Logf("%s: chi-square %.1f, %d upwards", name, chi, upwards)
	}
}

// Two workers, and two runs, draw different ports.
func TestAllocatorsAreSeededApart(t *testing.T) {
	same := 0
	var first [64]uint16
	for run := range 2 {
		o := newOwners(t, 1)
		configure(t, o, 0, []PortRange{fillRange})
		w := newTestWorker(t, o, 0)
		for i := range first {
			id, _ := w.try(fillRequest(i, 1))
			if run == 1 && first[i] == w.port(id) {
				same++
			}
			first[i] = w.port(id)
		}
	}
	if same > 3 {
		t.Errorf("%d of %d ports are the same", same, len(first))
	}
}

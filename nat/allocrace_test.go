package nat

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Workers take ports, hold them, steal them from each other and give them back
// while the control side changes ranges and the host's ports. No port ever has two
// workers, none that is known as the host's is handed out, and in the end nothing
// is left over.
func TestWorkersShareOwners(t *testing.T) {
	const workers = 4
	r := PortRange{1000, 1099}
	o := newOwners(t, 1)
	configure(t, o, 0, []PortRange{r})
	var users [portCount]atomic.Int32 // worker+1 that has live flows on the port
	var hosts [portCount]atomic.Bool  // seen as the host's
	var stop atomic.Bool
	var granted, stolen, refused atomic.Uint64
	var wg sync.WaitGroup
	for id := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(id), 7))
			w := newTestWorker(t, o, id)
			live, closed := []FlowID(nil), []FlowID(nil)
			count := map[uint16]int{} // live flows on each port
			up := func(port uint16) {
				if count[port]++; count[port] == 1 && !users[port].CompareAndSwap(0, int32(id)+1) {
					t.Errorf("worker %d has port %d, which is worker %d's", id, port, users[port].Load()-1)
				}
			}
			down := func(port uint16) {
				if count[port]--; count[port] == 0 {
					users[port].Store(0)
				}
			}
			pick := func(from *[]FlowID) FlowID {
				i := rnd.IntN(len(*from))
				flow := (*from)[i]
				(*from)[i] = (*from)[len(*from)-1]
				*from = (*from)[:len(*from)-1]
				return flow
			}
			for n := 0; !stop.Load() && !t.Failed(); n++ {
				now := int64(n) * 1e5
				switch op := rnd.IntN(10); {
				case op < 5:
					q := request(manyClients(rnd.IntN(5000), 1+rnd.Uint32N(2)), r)
					q.Tuple.Src += uint32(id) << 20
					q.StrictEIM, q.Now = rnd.IntN(2) == 0, now
					flow, result := w.try(q)
					if result != OK {
						refused.Add(1)
						continue
					}
					granted.Add(1)
					port := w.port(flow)
					if hosts[port].Load() {
						t.Errorf("worker %d has port %d, which is the host's", id, port)
					}
					up(port)
					live = append(live, flow)
				case op < 7 && len(live) > 0:
					flow := pick(&live)
					down(w.port(flow))
					w.Closed(flow, now)
					closed = append(closed, flow)
				case op < 8 && len(live) > 0:
					flow := pick(&live)
					down(w.port(flow))
					w.remove(flow)
				case len(closed) > 0:
					flow := pick(&closed)
					if _, there := w.flows[flow]; !there {
						continue // evicted
					}
					if op < 9 && w.Reopened(flow) {
						up(w.port(flow))
						live = append(live, flow)
						continue
					}
					w.remove(flow)
				}
			}
			for _, flow := range live {
				down(w.port(flow))
			}
			for flow := range w.flows {
				w.remove(flow)
			}
			stolen.Add(w.Counters(ClassTCP).Stolen)
			if c := w.Counters(ClassTCP); c.Mappings != 0 || c.Ports != 0 {
				t.Errorf("worker %d: %+v", id, c)
			}
		})
	}
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(99, 7))
		for !stop.Load() {
			port := r.Low + uint16(rnd.IntN(100))
			o.SetHost(0, ClassTCP, port, true)
			if o.State(0, ClassTCP, port) == StateHost {
				hosts[port].Store(true)
			}
			for range rnd.IntN(1000) {
				if s := o.State(0, ClassTCP, port); s == StateFree && hosts[port].Load() {
					t.Errorf("port %d of the host is free", port)
				}
			}
			hosts[port].Store(false)
			o.SetHost(0, ClassTCP, port, false)
			if rnd.IntN(50) == 0 {
				configure(t, o, 0, []PortRange{{1000, 1049}})
				configure(t, o, 0, []PortRange{r})
			}
			o.Count(0, ClassTCP)
			o.Conflicts(0, ClassTCP, 3)
		}
	})
	time.Sleep(time.Second)
	stop.Store(true)
	wg.Wait()
	t.Logf("%d ports granted, %d stolen, %d refused", granted.Load(), stolen.Load(), refused.Load())

	s := o.slot(0, ClassTCP)
	if n := o.Count(0, ClassTCP); n.Free != 100 || n.Used != 0 || n.Held != 0 {
		t.Errorf("left over: %+v", n)
	}
	free, held := int32(0), int32(0)
	for i := range s.freeIn {
		free, held = free+s.freeIn[i].Load(), held+s.heldIn[i].Load()
	}
	for port := range portCount {
		if bit := s.free[port/64].Load()>>(port%64)&1 != 0; bit != (s.load(uint16(port)) == StateFree) {
			t.Errorf("port %d: free bit %v, state %d", port, bit, s.load(uint16(port)))
		}
	}
	for w := range workers {
		if n := s.used[w].Load(); n != 0 {
			t.Errorf("worker %d uses %d", w, n)
		}
	}
	if free != 100 || held != 0 {
		t.Errorf("%d free and %d held in all blocks", free, held)
	}
}

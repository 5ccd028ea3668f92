package nat

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func newOwners(t testing.TB, addresses int) *Owners {
	t.Helper()
	o, err := NewOwners(nil, addresses)
	if err != nil {
		t.Fatal(err)
	}
	o.FinishRestore()
	return o
}

func configure(t testing.TB, o *Owners, index int, ranges []PortRange, host ...uint16) {
	t.Helper()
	if err := o.Configure(index, ranges, [Classes][]uint16{host, host, host, host}); err != nil {
		t.Fatal(err)
	}
}

func TestStates(t *testing.T) {
	for w := range MaxWorkers {
		for _, state := range []uint8{Used(w), Held(w)} {
			if got, ok := WorkerOf(state); !ok || got != w {
				t.Errorf("state %d is worker %d, %v, want %d", state, got, ok, w)
			}
		}
		if Used(w) >= StateHeld || Held(w) < StateHeld || Used(w) < StateUsed {
			t.Errorf("worker %d: %d and %d", w, Used(w), Held(w))
		}
	}
	for _, state := range []uint8{StateHost, StateFree, StateUsed + MaxWorkers, StateHeld - 1, StateHeld + MaxWorkers, 255} {
		if w, ok := WorkerOf(state); ok {
			t.Errorf("state %d is worker %d", state, w)
		}
	}
}

func TestClasses(t *testing.T) {
	for c := range Class(Classes) {
		if got, ok := ClassOf(c.Proto()); !ok || got != c {
			t.Errorf("%v has protocol %d, and that is %v", c, c.Proto(), got)
		}
	}
	for proto, want := range map[uint8]string{6: "tcp", 17: "udp", 1: "icmp", 132: "sctp"} {
		if c, ok := ClassOf(proto); !ok || c.String() != want {
			t.Errorf("protocol %d is %v, want %s", proto, c, want)
		}
	}
	for _, proto := range []uint8{0, 2, 4, 41, 47, 50, 58, 136, 255} {
		if c, ok := ClassOf(proto); ok {
			t.Errorf("protocol %d is %v", proto, c)
		}
	}
}

func TestMemoryOfOwners(t *testing.T) {
	for name, c := range map[string]struct {
		mem       []byte
		addresses int
		ok        bool
	}{
		"none":        {nil, 2, true},
		"no address":  {[]byte{}, 0, true},
		"enough":      {make([]byte, 2*AddressSize), 2, true},
		"more":        {make([]byte, 3*AddressSize), 2, true},
		"too little":  {make([]byte, 2*AddressSize-1), 2, false},
		"negative":    {nil, -1, false},
		"too many":    {nil, 16385, false},
		"not aligned": {make([]byte, AddressSize+8)[1:], 1, false},
	} {
		o, err := NewOwners(c.mem, c.addresses)
		if (err == nil) != c.ok || err == nil && o.Addresses() != c.addresses {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// XDP reads the byte at [address][class][port].
func TestLayout(t *testing.T) {
	mem := make([]byte, 3*AddressSize)
	o, err := NewOwners(mem, 3)
	if err != nil {
		t.Fatal(err)
	}
	o.FinishRestore()
	for _, p := range []uint16{1, 7, 8, 1023, 32769, 65535} {
		configure(t, o, 2, []PortRange{{p, p}})
		o.SetHost(2, ClassICMP, p, true)
		var want []int
		for class := range Classes {
			if Class(class) != ClassICMP {
				want = append(want, (2*Classes+class)*65536+int(p))
			}
		}
		var got []int
		for i, b := range mem {
			if b == StateFree {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("port %d is free at %v, want %v", p, got, want)
		}
	}
}

func TestConfigure(t *testing.T) {
	o := newOwners(t, 2)
	configure(t, o, 1, []PortRange{{0, 3}, {100, 103}, {102, 105}, {65535, 65535}}, 3, 104, 9)
	for class := range Class(Classes) {
		var free []int
		for port := range 65536 {
			if o.State(1, class, uint16(port)) == StateFree {
				free = append(free, port)
			}
		}
		if want := []int{1, 2, 100, 101, 102, 103, 105, 65535}; !slices.Equal(free, want) {
			t.Errorf("%v: free are %v, want %v", class, free, want)
		}
		if n := o.Count(0, class); n != (PortCounts{Host: 65536}) {
			t.Errorf("%v of the other address: %+v", class, n)
		}
	}
	configure(t, o, 1, nil)
	if n := o.Count(1, ClassUDP); n != (PortCounts{Host: 65536}) {
		t.Errorf("without ranges: %+v", n)
	}
}

func TestConfigureRefuses(t *testing.T) {
	o := newOwners(t, 1)
	configure(t, o, 0, []PortRange{{10, 20}})
	for name, err := range map[string]error{
		"index too high": o.Configure(1, nil, [Classes][]uint16{}),
		"index negative": o.Configure(-1, nil, [Classes][]uint16{}),
		"range":          o.Configure(0, []PortRange{{5, 6}, {20, 10}}, [Classes][]uint16{}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := o.Count(0, ClassTCP); n.Free != 11 {
		t.Errorf("after what was refused: %+v", n)
	}
}

func TestAddressesThatAreNotThere(t *testing.T) {
	o := newOwners(t, 1)
	for _, index := range []int{-1, 1, 1 << 40} {
		o.SetHost(index, ClassTCP, 5, true)
		if s := o.State(index, ClassTCP, 5); s != StateHost {
			t.Errorf("index %d: state %d", index, s)
		}
		if n := o.Count(index, ClassTCP); n.Host != 65536 {
			t.Errorf("index %d: %+v", index, n)
		}
		if c := o.Conflicts(index, ClassTCP, 5); c != nil {
			t.Errorf("index %d: %v", index, c)
		}
		if w, ok := o.Holder(0, []Source{{Index: index}}, ClassTCP, 5); ok {
			t.Errorf("index %d: held by %d", index, w)
		}
	}
	if s := o.State(0, Classes, 5); s != StateHost {
		t.Errorf("class %d: state %d", Classes, s)
	}
}

func TestPortOfTheHostIsFreeAgainAfterwards(t *testing.T) {
	o := newOwners(t, 1)
	o.SetHost(0, ClassTCP, 50, true) // noted before there is a range
	configure(t, o, 0, []PortRange{{50, 51}})
	if o.State(0, ClassTCP, 50) != StateFree {
		t.Error("Configure does not replace what was said before")
	}
	for range 2 {
		o.SetHost(0, ClassTCP, 50, true)
		if o.State(0, ClassTCP, 50) != StateHost || o.State(0, ClassUDP, 50) != StateFree || o.State(0, ClassTCP, 51) != StateFree {
			t.Error("not the host's, or others are, too")
		}
	}
	o.SetHost(0, ClassTCP, 50, false)
	o.SetHost(0, ClassTCP, 49, false) // out of the range
	if o.State(0, ClassTCP, 50) != StateFree || o.State(0, ClassTCP, 49) != StateHost {
		t.Error("not free again")
	}
}

// A live flow keeps its port when the host gets it; a closed one does not.
func TestConflictsEndWithTheirFlows(t *testing.T) {
	for name, take := range map[string]func(o *Owners){
		"host port":       func(o *Owners) { o.SetHost(0, ClassUDP, 5000, true) },
		"all host ports":  func(o *Owners) { configure(t, o, 0, []PortRange{{5000, 5000}}, 5000) },
		"other range":     func(o *Owners) { configure(t, o, 0, []PortRange{{6000, 6000}}) },
		"no range at all": func(o *Owners) { configure(t, o, 0, nil) },
	} {
		for _, closed := range []bool{false, true} {
			o := newOwners(t, 1)
			configure(t, o, 0, []PortRange{{5000, 5000}})
			w := newTestWorker(t, o, 0)
			id := w.begin(t, tuple(1, 10, 17))
			if closed {
				w.Closed(id, 0)
			}
			take(o)
			want, conflicts := Used(0), []uint16{5000}
			if closed {
				want, conflicts = StateHost, nil
			}
			if got := o.State(0, ClassUDP, 5000); got != want || !slices.Equal(o.Conflicts(0, ClassUDP, 9), conflicts) {
				t.Errorf("%s, closed %v: state %d, want %d, conflicts %v", name, closed, got, want, o.Conflicts(0, ClassUDP, 9))
			}
			if w.StillOurs(0, ClassUDP, 5000) == closed {
				t.Errorf("%s, closed %v: StillOurs is wrong", name, closed)
			}
			// Neither the pod's own port nor that of others leads to it.
			for _, q := range []Request{request(tuple(2, 10, 17), PortRange{5000, 5000}), request(tuple(3, 11, 17), PortRange{5000, 5000})} {
				if g, result := w.Take(q); result != Exhausted {
					t.Errorf("%s, closed %v: %+v, %v", name, closed, g, result)
				}
			}
			if !closed {
				w.Closed(id, 0)
			}
			if got := o.State(0, ClassUDP, 5000); got != StateHost {
				t.Errorf("%s: state %d after the flow has ended", name, got)
			}
			if w.Reopened(id) {
				t.Errorf("%s: the flow begins again on a port of the host", name)
			}
			w.remove(id)
			if got := o.State(0, ClassUDP, 5000); got != StateHost {
				t.Errorf("%s: state %d after the flow is gone", name, got)
			}
			configure(t, o, 0, []PortRange{{5000, 5000}})
			if got := o.State(0, ClassUDP, 5000); got != StateFree {
				t.Errorf("%s: state %d when it is ours again", name, got)
			}
		}
	}
}

// Until restoring is finished, the memory stays as the last process left it.
func TestMemoryOfAnEarlierProcess(t *testing.T) {
	mem := make([]byte, 2*AddressSize)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range mem {
		mem[i] = byte(r.Uint32())
	}
	before := slices.Clone(mem)
	o, err := NewOwners(mem, 2)
	if err != nil {
		t.Fatal(err)
	}
	configure(t, o, 1, []PortRange{{1000, 1999}}, 1500)
	o.SetHost(1, ClassTCP, 1600, true)
	w := newTestWorker(t, o, 3)
	if _, result := w.Take(request(tuple(1, 10, 6), PortRange{1000, 1999})); result != Exhausted {
		t.Errorf("a port before restoring is finished: %v", result)
	}
	if !slices.Equal(mem, before) {
		t.Fatal("the memory has changed before anything was restored")
	}
	restored := map[uint16]uint8{1234: Used(3), 1500: Used(3), 30: Used(3), 1235: Held(3), 1600: Held(3), 1236: Used(3)}
	for port, state := range restored {
		f := tuple(uint32(port), port, 6)
		reply := f.Reverse()
		reply.Dst, reply.DstPort = snatAddr(1), port
		if !w.Restore(FlowID(port), 1, f, reply, 7, state >= StateHeld) {
			t.Errorf("port %d was not restored", port)
		}
		if port == 1236 { // one more flow on the same port, closed
			reply.Src++
			f.Dst++
			if !w.Restore(5000, 1, f, reply, 7, true) {
				t.Error("the second flow of a port was not restored")
			}
		}
		if got := o.State(1, ClassTCP, port); got != state {
			t.Errorf("port %d is %d, want %d", port, got, state)
		}
	}
	other := newTestWorker(t, o, 4)
	for name, c := range map[string]struct {
		index int
		port  uint16
		proto uint8
	}{
		"another worker's": {1, 1234, 6}, "port 0": {1, 0, 6}, "no class": {1, 40, 47}, "no index": {2, 40, 6}, "negative": {-1, 40, 6},
	} {
		f := tuple(9, 9, c.proto)
		reply := f.Reverse()
		reply.Dst, reply.DstPort = snatAddr(1), c.port
		if other.Restore(9, c.index, f, reply, 7, false) {
			t.Errorf("%s: restored", name)
		}
	}
	for i := range mem {
		if port := uint16(i); i/65536 == Classes*1+int(ClassTCP) && restored[port] != 0 {
			continue
		}
		if mem[i] != before[i] {
			t.Fatalf("byte %d has changed, and was not restored", i)
		}
	}
	o.FinishRestore()
	o.FinishRestore()
	for i, state := range mem {
		index, class, port := i/AddressSize, Class(i/65536%Classes), uint16(i)
		want := StateHost
		switch {
		case index == 1 && class == ClassTCP && restored[port] != 0 && port != 1600:
			want = restored[port]
		case index == 1 && port >= 1000 && port <= 1999 && port != 1500 && (port != 1600 || class != ClassTCP):
			want = StateFree
		}
		if state != want {
			t.Fatalf("%d %v %d is %d, want %d", index, class, port, state, want)
		}
	}
	if got := o.Conflicts(1, ClassTCP, 9); !slices.Equal(got, []uint16{30, 1500}) {
		t.Errorf("conflicts are %v", got)
	}
	if f := tuple(9, 9, 6); w.Restore(9, 1, f, f.Reverse(), 7, false) {
		t.Error("restored after restoring was finished")
	}
}

// Live flows go before the closed ones of another worker, which has lost the port
// before the restart.
func TestLiveFlowsAreRestoredBeforeClosed(t *testing.T) {
	for _, liveFirst := range []bool{true, false} {
		o, err := NewOwners(nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		configure(t, o, 0, []PortRange{{5000, 5000}})
		live, closed := newTestWorker(t, o, 1), newTestWorker(t, o, 2)
		a, b := tuple(1, 10, 6), tuple(1, 11, 6)
		reply := a.Reverse()
		reply.Dst, reply.DstPort = snatAddr(0), 5000
		var closedOK bool
		steps := []func(){
			func() {
				if !live.Restore(1, 0, a, reply, 1, false) {
					t.Error("the live flow was not restored")
				}
			},
			func() { closedOK = closed.Restore(1, 0, b, reply, 1, true) },
		}
		if !liveFirst {
			slices.Reverse(steps)
		}
		for _, step := range steps {
			step()
		}
		o.FinishRestore()
		if o.State(0, ClassTCP, 5000) != Used(1) || closed.StillOurs(0, ClassTCP, 5000) || closedOK == liveFirst {
			t.Errorf("live first %v: state %d, closed restored %v", liveFirst, o.State(0, ClassTCP, 5000), closedOK)
		}
		closed.Allocator.Removed(1)
		if o.State(0, ClassTCP, 5000) != Used(1) {
			t.Error("the closed flow took the port with it")
		}
	}
}

func TestHolderSpreadsByPorts(t *testing.T) {
	o := newOwners(t, 2)
	for i := range 2 {
		configure(t, o, i, []PortRange{{1, 400}})
	}
	sources := []Source{{snatAddr(0), 0, 1, 400}, {snatAddr(1), 1, 1, 400}}
	for port := range uint16(400) { // worker 5 has three of four ports
		s, w := o.slot(int(port&1), ClassTCP), 5
		if port%4 == 0 {
			w = 63
		}
		if !s.claim(port+1, w) {
			t.Fatal("not free")
		}
	}
	var n [MaxWorkers]int
	for i := range uint32(4096) {
		w, ok := o.Holder(1<<0, sources, ClassTCP, i<<20)
		if !ok {
			t.Fatal("nobody")
		}
		n[w]++
	}
	if n[5] != 3072 || n[63] != 1024 {
		t.Errorf("%v", n)
	}
	if w, ok := o.Holder(1<<5|1, sources, ClassTCP, 1<<31); !ok || w != 63 {
		t.Errorf("without worker 5 it is %d, %v", w, ok)
	}
	if w, ok := o.Holder(1<<5|1<<63, sources, ClassTCP, 1<<31); ok {
		t.Errorf("without both it is %d", w)
	}
	if w, ok := o.Holder(0, sources, ClassUDP, 1<<31); ok {
		t.Errorf("of another class it is %d", w)
	}
}

func TestStateDoesNotAllocate(t *testing.T) {
	o := newOwners(t, 1)
	sources := []Source{{Index: 0}}
	if n := testing.AllocsPerRun(100, func() {
		o.State(0, ClassTCP, 5)
		o.Holder(1, sources, ClassTCP, 5)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkState(b *testing.B) {
	o := newOwners(b, 1)
	port := uint16(0)
	for b.Loop() {
		o.State(0, ClassTCP, port)
		port += 4099
	}
}

package nat

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"ringway/packet"
)

var operations = flag.Int("operations", 1_000_000, "how many operations the allocator and its twin are compared over")

// The slow twin of allocators and Owners: it keeps plain lists of flows, and says
// before each operation what may come of it by looking at all of them and at every
// port. The flows are also the conntrack that the allocators ask.

const (
	twinAddresses = 2
	twinPorts     = 2048 // all ranges of the test lie below
	twinFirstAddr = 0xc6336401
)

type twinKey struct {
	index int
	class Class
	port  uint16
}

type twinPort struct {
	state         uint8
	inRange, host bool
	heldMS        uint32
	heldAt        int // order in which ports were held
}

func (p *twinPort) ours() bool { return p.inRange && !p.host }

type twinFlow struct {
	id              FlowID
	original, reply packet.Tuple
	key             twinKey
	owner           uint32
	foreign         bool // has no port of ours, only the tuple
	closed          bool
	closedAt        int // order in which flows were closed
	lost            bool
}

type twinWorker struct {
	alloc   *Allocator
	id      int
	nowMS   uint32
	flows   []*twinFlow
	tuples  map[packet.Tuple]*twinFlow
	unused  []FlowID
	evicted []*twinFlow
}

type twin struct {
	*testing.T
	r       *rand.Rand
	mem     []byte
	owners  *Owners
	workers []*twinWorker
	ports   [twinAddresses][Classes][twinPorts]twinPort
	quota   int
	now     int64
	order   int
	classes []Class
	ranges  [twinAddresses]PortRange
	fill    int // how many of 100 operations begin a flow
	refused int
	granted int
}

func (tw *twin) port(k twinKey) *twinPort { return &tw.ports[k.index][k.class][k.port] }

func (tw *twin) next() int { tw.order++; return tw.order }

// blocked: see Allocator.blocked.
func (w *twinWorker) blocked(reply packet.Tuple) bool {
	f := w.tuples[reply]
	return f != nil && (f.foreign || !f.closed)
}

func (w *twinWorker) add(f *twinFlow) {
	f.id = w.unused[len(w.unused)-1]
	w.unused = w.unused[:len(w.unused)-1]
	w.flows = append(w.flows, f)
	w.tuples[f.reply] = f
	w.tuples[f.original] = f
}

// forget takes a flow out of the conntrack; the caller tells the allocator.
func (w *twinWorker) forget(f *twinFlow) {
	i := slices.Index(w.flows, f)
	w.flows[i] = w.flows[len(w.flows)-1]
	w.flows = w.flows[:len(w.flows)-1]
	delete(w.tuples, f.reply)
	delete(w.tuples, f.original)
	w.unused = append(w.unused, f.id)
}

func (tw *twin) evict(w *twinWorker, id FlowID) {
	for _, f := range w.flows {
		if f.id != id {
			continue
		}
		if f.foreign || !f.closed {
			tw.Fatalf("flow %+v was evicted", f)
		}
		w.evicted = append(w.evicted, f)
		w.forget(f)
		w.alloc.Removed(id)
		return
	}
	tw.Fatalf("flow %d was evicted, and is not there", id)
}

// expected is what may come of a request.
type expected struct {
	result  Result
	ports   []twinKey // any of them
	broken  bool      // endpoint-independent mapping
	reused  bool      // the port of the endpoint
	stolen  bool
	acquire bool // the worker's earlier flows on the port are gone
}

func (tw *twin) expect(w *twinWorker, q Request) expected {
	class, _ := ClassOf(q.Tuple.Proto)
	reply := q.Tuple.Reverse()
	fitting, taken, noQuota := []twinKey(nil), false, false
	inUse := map[[2]any]bool{} // of the owner: endpoint and port
	for _, f := range w.flows {
		if !f.foreign && !f.closed && f.owner == q.Owner {
			inUse[[2]any{endpoint{f.original.Src, f.original.SrcPort, f.key.class}, f.key}] = true
		}
	}
	overQuota := tw.quota != 0 && len(inUse) >= tw.quota
	for _, f := range w.flows {
		p := tw.port(f.key)
		if f.foreign || f.original.Src != q.Tuple.Src || f.original.SrcPort != q.Tuple.SrcPort || f.key.class != class ||
			!p.ours() || p.state != Used(w.id) && p.state != Held(w.id) {
			continue
		}
		s := slices.IndexFunc(q.Sources, func(s Source) bool {
			return s.Index == f.key.index && s.Low <= f.key.port && f.key.port <= s.High
		})
		if s < 0 {
			continue
		}
		reply.Dst, reply.DstPort = q.Sources[s].Addr, f.key.port
		live := slices.ContainsFunc(w.flows, func(g *twinFlow) bool {
			return !g.foreign && !g.closed && g.key == f.key && g.original.Src == f.original.Src && g.original.SrcPort == f.original.SrcPort
		})
		switch {
		case w.blocked(reply):
			taken = true
		case !live && overQuota:
			noQuota = true
		default:
			fitting = append(fitting, f.key)
		}
	}
	switch {
	case fitting != nil:
		return expected{result: OK, ports: fitting, reused: true}
	case noQuota || overQuota:
		return expected{result: OverQuota}
	case taken && q.StrictEIM:
		return expected{result: Exhausted}
	}
	first := paired(q.Tuple.Src, q.Sources)
	for i := range q.Sources {
		s := q.Sources[(first+i)%len(q.Sources)]
		for _, same := range []bool{true, false} {
			if e, ok := tw.expectFrom(w, q, s, class, same); ok {
				e.broken = taken
				return e
			}
		}
	}
	return expected{result: Exhausted}
}

// expectFrom looks at the ports of one source, of the same kind as the flow's or
// of the other kind.
func (tw *twin) expectFrom(w *twinWorker, q Request, s Source, class Class, same bool) (expected, bool) {
	var free, held, stolen, shared []twinKey
	heldAt, stolenMS := 0, uint32(0)
	var closed *twinFlow
	for port := max(s.Low, 1); port <= s.High; port++ {
		if sameKind := class == ClassICMP || (port < 1024) == (q.Tuple.SrcPort < 1024); sameKind != same {
			continue
		}
		k := twinKey{s.Index, class, port}
		p := tw.port(k)
		reply := packet.Tuple{Src: q.Tuple.Dst, SrcPort: q.Tuple.DstPort, Dst: s.Addr, DstPort: port, Proto: q.Tuple.Proto}
		f := w.tuples[reply]
		if f != nil && (f.foreign || !f.closed) || p.state == StateHost {
			continue
		}
		worker, _ := WorkerOf(p.state)
		switch {
		case p.state == StateFree:
			free = append(free, k)
		case p.state >= StateHeld && worker == w.id:
			if held == nil || p.heldAt < heldAt {
				held, heldAt = []twinKey{k}, p.heldAt
			}
		case p.state >= StateHeld && (stolen == nil || p.heldMS < stolenMS):
			stolen, stolenMS = []twinKey{k}, p.heldMS
		case p.state >= StateHeld && p.heldMS == stolenMS:
			stolen = append(stolen, k)
		case p.state == Used(w.id) && p.ours() && f == nil:
			shared = append(shared, k)
		case p.state == Used(w.id) && p.ours() && (closed == nil || f.closedAt < closed.closedAt):
			closed = f
		}
	}
	switch {
	case free != nil:
		return expected{ports: free, acquire: true}, true
	case held != nil:
		return expected{ports: held, acquire: true}, true
	case stolen != nil:
		return expected{ports: stolen, acquire: true, stolen: true}, true
	case q.StrictEIM:
		return expected{}, false
	case shared != nil:
		return expected{ports: shared}, true
	case closed != nil:
		return expected{ports: []twinKey{closed.key}}, true
	}
	return expected{}, false
}

func (tw *twin) begin(w *twinWorker) {
	q := tw.request()
	if w.tuples[q.Tuple] != nil || len(w.unused) == 0 {
		return
	}
	class, _ := ClassOf(q.Tuple.Proto)
	want := tw.expect(w, q)
	before := w.alloc.Counters(class)
	w.evicted = w.evicted[:0]
	g, result := w.alloc.Take(q)
	w.nowMS = milliseconds(q.Now)
	after := w.alloc.Counters(class)
	if result != want.result {
		tw.Fatalf("worker %d: %+v gives %v, want %+v", w.id, q, result, want)
	}
	if broken := after.EIMBroken != before.EIMBroken; broken != want.broken || (after.Stolen != before.Stolen) != want.stolen {
		tw.Fatalf("worker %d: %+v: counted %+v after %+v, want %+v", w.id, q, after, before, want)
	}
	if result != OK {
		if after.Refused-before.Refused+after.QuotaRefused-before.QuotaRefused != 1 {
			tw.Fatalf("a refusal was counted as %+v after %+v", after, before)
		}
		tw.refused++
		tw.dropLost(w, twinKey{})
		tw.holder(w, q, class)
		return
	}
	tw.granted++
	k := twinKey{g.Index, class, g.Port}
	if !slices.Contains(want.ports, k) {
		tw.Fatalf("worker %d: %+v gets %+v, want %+v", w.id, q, k, want)
	}
	if want := (packet.Tuple{Src: q.Tuple.Dst, SrcPort: q.Tuple.DstPort, Dst: twinFirstAddr + uint32(g.Index), DstPort: g.Port, Proto: q.Tuple.Proto}); g.Reply != want || g.Addr != want.Dst {
		tw.Fatalf("the grant is %+v, want the reply %+v", g, want)
	}
	if w.tuples[g.Reply] != nil {
		tw.Fatalf("%+v: the reply tuple is taken", g)
	}
	tw.dropLost(w, k)
	tw.got(w, k, want.acquire)
	if tw.r.IntN(20) == 0 {
		w.alloc.Cancel(g)
		tw.noLonger(w, k)
		return
	}
	f := &twinFlow{original: q.Tuple, reply: g.Reply, key: k, owner: q.Owner}
	w.add(f)
	w.alloc.Bind(g, f.id)
}

// dropLost checks that no flow was evicted but those on the port that was granted,
// and those whose port was lost.
func (tw *twin) dropLost(w *twinWorker, k twinKey) {
	for _, f := range w.evicted {
		if f.key != k && !f.lost {
			tw.Fatalf("%+v was evicted for %+v", f, k)
		}
	}
}

// got notes that the worker has the port now.
func (tw *twin) got(w *twinWorker, k twinKey, acquired bool) {
	p := tw.port(k)
	if holder, ok := WorkerOf(p.state); ok && holder != w.id {
		tw.lose(tw.workers[holder], k)
	}
	p.state = Used(w.id)
	if acquired && slices.ContainsFunc(w.flows, func(f *twinFlow) bool { return !f.foreign && f.key == k }) {
		tw.Fatalf("worker %d got %+v and still has flows that had it before", w.id, k)
	}
}

func (tw *twin) lose(w *twinWorker, k twinKey) {
	for _, f := range w.flows {
		if !f.foreign && f.key == k {
			if !f.closed {
				tw.Fatalf("worker %d lost %+v, which %+v uses", w.id, k, f)
			}
			f.lost = true
		}
	}
}

// noLonger notes that a flow has ended, or a grant was given back.
func (tw *twin) noLonger(w *twinWorker, k twinKey) {
	p := tw.port(k)
	if holder, ok := WorkerOf(p.state); !ok || holder != w.id {
		return
	}
	closed := false
	for _, f := range w.flows {
		if f.foreign || f.key != k {
			continue
		}
		if !f.closed {
			return
		}
		closed = true
	}
	switch {
	case !p.ours():
		p.state = StateHost
		tw.lose(w, k)
	case !closed:
		p.state = StateFree
	case p.state == Used(w.id):
		p.state, p.heldMS, p.heldAt = Held(w.id), w.nowMS, tw.next()
	}
}

// holder checks that a flow without a port is sent to a worker that has some.
func (tw *twin) holder(w *twinWorker, q Request, class Class) {
	var others []int
	for _, s := range q.Sources {
		for i := range tw.ports[s.Index][class] {
			if state := tw.ports[s.Index][class][i].state; state >= StateUsed && state < StateHeld && state != Used(w.id) {
				others = append(others, int(state-StateUsed))
			}
		}
	}
	got, ok := tw.owners.Holder(1<<w.id, q.Sources, class, tw.r.Uint32())
	if ok != (others != nil) || ok && !slices.Contains(others, got) {
		tw.Fatalf("holder is %d, %v, want one of %v", got, ok, others)
	}
}

func (tw *twin) request() Request {
	class := tw.classes[tw.r.IntN(len(tw.classes))]
	pod := tw.r.Uint32N(5)
	q := Request{
		Tuple: packet.Tuple{
			Src: 0x0ac80002 + pod, SrcPort: []uint16{500, 1023, 1024, 5000, 40000}[tw.r.IntN(5)] + uint16(tw.r.IntN(4)),
			Dst: 0xc0000201 + tw.r.Uint32N(3), DstPort: uint16(80 + tw.r.IntN(2)), Proto: class.Proto(),
		},
		Owner: pod, StrictEIM: tw.r.IntN(4) == 0, Now: tw.now,
	}
	if class == ClassICMP {
		q.Tuple.DstPort = 0
	}
	for i, r := range tw.ranges {
		q.Sources = append(q.Sources, Source{Addr: twinFirstAddr + uint32(i), Index: i, Low: r.Low, High: r.High})
	}
	switch tw.r.IntN(8) {
	case 0:
		q.Sources = q.Sources[:1]
	case 1:
		q.Sources = q.Sources[1:]
	case 2: // a rule with fewer ports than others
		q.Sources[0].High -= (q.Sources[0].High - q.Sources[0].Low) / 2
	case 3:
		q.Sources[0].Low += (q.Sources[0].High - q.Sources[0].Low) / 2
	}
	return q
}

func (tw *twin) step() {
	w := tw.workers[tw.r.IntN(len(tw.workers))]
	tw.now += tw.r.Int64N(2e6)
	op := tw.r.IntN(100)
	switch {
	case op < tw.fill:
		tw.begin(w)
	case op == 99 && tw.r.IntN(20) == 0:
		tw.reconfigure()
	case op == 99 && tw.r.IntN(20) == 0:
		tw.restart()
	case op == 99:
		tw.setHost()
	case op == 98:
		tw.foreign(w)
	case len(w.flows) == 0:
	case tw.r.IntN(2) == 0:
		tw.close(w, w.flows[tw.r.IntN(len(w.flows))])
	default:
		tw.remove(w, w.flows[tw.r.IntN(len(w.flows))])
	}
}

// close closes a live flow, and opens a closed one again.
func (tw *twin) close(w *twinWorker, f *twinFlow) {
	if f.foreign {
		w.alloc.Closed(f.id, tw.now)
		if !w.alloc.Reopened(f.id) {
			tw.Fatal("a flow without a port could not be reopened")
		}
		return
	}
	if still := w.alloc.StillOurs(f.key.index, f.key.class, f.key.port); still == f.lost {
		tw.Fatalf("StillOurs is %v for %+v", still, f)
	}
	if !f.closed {
		w.alloc.Closed(f.id, tw.now)
		w.nowMS = milliseconds(tw.now)
		f.closed, f.closedAt = true, tw.next()
		tw.noLonger(w, f.key)
		return
	}
	if got := w.alloc.Reopened(f.id); got == f.lost {
		tw.Fatalf("Reopened is %v for %+v", got, f)
	}
	if f.lost {
		tw.remove(w, f)
		return
	}
	f.closed = false
	tw.port(f.key).state = Used(w.id)
}

func (tw *twin) remove(w *twinWorker, f *twinFlow) {
	w.forget(f)
	w.alloc.Removed(f.id)
	if !f.foreign {
		tw.noLonger(w, f.key)
	}
}

// foreign begins a flow that has no port of ours but is in the way of some.
func (tw *twin) foreign(w *twinWorker) {
	q := tw.request()
	s := q.Sources[tw.r.IntN(len(q.Sources))]
	reply := q.Tuple.Reverse()
	reply.Dst, reply.DstPort = s.Addr, s.Low+uint16(tw.r.IntN(int(s.High-s.Low)+1))
	if w.tuples[reply] == nil && w.tuples[reply.Reverse()] == nil && len(w.unused) > 0 {
		w.add(&twinFlow{original: reply.Reverse(), reply: reply, foreign: true})
	}
}

func (tw *twin) setHost() {
	k := twinKey{tw.r.IntN(twinAddresses), tw.classes[tw.r.IntN(len(tw.classes))], 0}
	r := tw.ranges[k.index]
	k.port = r.Low + uint16(tw.r.IntN(int(r.High-r.Low)+1))
	p := tw.port(k)
	p.host = !p.host
	tw.owners.SetHost(k.index, k.class, k.port, p.host)
	tw.follow(k)
}

// follow brings a port to what the control side wants of it.
func (tw *twin) follow(k twinKey) {
	p := tw.port(k)
	holder, _ := WorkerOf(p.state)
	switch {
	case p.ours() && p.state == StateHost:
		p.state = StateFree
	case !p.ours() && p.state == StateFree:
		p.state = StateHost
	case !p.ours() && p.state >= StateHeld:
		p.state = StateHost
		tw.lose(tw.workers[holder], k)
	}
}

// reconfigure changes the ranges of an address; rules go on with the old ones for
// a while, which must not matter.
func (tw *twin) reconfigure() {
	index := tw.r.IntN(twinAddresses)
	if tw.r.IntN(2) == 0 {
		tw.ranges[index] = tw.randomRange()
	}
	tw.configure(index)
	for class := range Class(Classes) {
		for port := range uint16(twinPorts) {
			tw.follow(twinKey{index, class, port})
		}
	}
}

func (tw *twin) randomRange() PortRange {
	ranges := []PortRange{{0, 4}, {1000, 1040}, {1020, 1027}, {40, 63}, {1024, 1100}, {1023, 1024}, {1500, 1560}, {700, 700}}
	return ranges[tw.r.IntN(len(ranges))]
}

func (tw *twin) configure(index int) {
	r := tw.ranges[index]
	if tw.r.IntN(4) == 0 {
		r = PortRange{r.Low, r.Low + (r.High-r.Low)/2}
	}
	var host [Classes][]uint16
	for class := range Class(Classes) {
		for port := range uint16(twinPorts) {
			p := tw.port(twinKey{index, class, port})
			p.inRange = port != 0 && r.Low <= port && port <= r.High
			p.host = tw.r.IntN(40) == 0
			if p.host {
				host[class] = append(host[class], port)
			}
		}
	}
	if err := tw.owners.Configure(index, []PortRange{r}, host); err != nil {
		tw.Fatal(err)
	}
}

// restart begins a new process on the memory of the old one.
func (tw *twin) restart() {
	owners, err := NewOwners(tw.mem, twinAddresses)
	if err != nil {
		tw.Fatal(err)
	}
	before := tw.ports
	tw.owners = owners
	type item struct {
		w *twinWorker
		f *twinFlow
	}
	var items []item
	for _, w := range tw.workers {
		tw.newAllocator(w)
		for _, f := range w.flows {
			items = append(items, item{w, f})
		}
	}
	for index := range twinAddresses {
		tw.configure(index)
	}
	if g, result := tw.workers[0].alloc.Take(tw.request()); result != Exhausted {
		tw.Fatalf("%+v, %v, before flows were restored", g, result)
	}
	tw.r.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	restored := map[twinKey]bool{}
	for _, it := range items {
		w, f := it.w, it.f
		if f.foreign {
			continue
		}
		p, seen := tw.port(f.key), restored[f.key]
		if !f.closed && p.state != Used(w.id) && p.state < StateHeld {
			tw.Fatalf("%+v is live and its port is %d", f, p.state)
		}
		holder, _ := WorkerOf(p.state)
		want := !seen || !f.closed || holder == w.id
		if got := w.alloc.Restore(f.id, f.key.index, f.original, f.reply, f.owner, f.closed); got != want {
			tw.Fatalf("Restore is %v for %+v of worker %d, whose port is %d, %v", got, f, w.id, p.state, seen)
		}
		switch {
		case !want:
			w.forget(f)
			continue
		case !f.closed && seen && holder != w.id:
			for _, g := range tw.workers[holder].flows {
				g.lost = g.lost || !g.foreign && g.key == f.key
			}
			p.state = Used(w.id)
		case !f.closed:
			p.state = Used(w.id)
		case !seen:
			p.state, p.heldMS, p.heldAt = Held(w.id), w.nowMS, tw.next()
		}
		f.closedAt, f.lost = tw.next(), false
		restored[f.key] = true
		for k := range restored { // what XDP sees meanwhile
			if got := owners.State(k.index, k.class, k.port); got != tw.port(k).state {
				tw.Fatalf("while restoring, %+v is %d, want %d", k, got, tw.port(k).state)
			}
		}
	}
	for index := range twinAddresses {
		for class := range Class(Classes) {
			for port := range uint16(twinPorts) {
				k := twinKey{index, class, port}
				if got := owners.State(index, class, port); !restored[k] && got != before[index][class][port].state {
					tw.Fatalf("%+v changed from %d to %d though nothing was restored there", k, before[index][class][port].state, got)
				}
			}
		}
	}
	owners.FinishRestore()
	for index := range twinAddresses {
		for class := range Class(Classes) {
			for port := range uint16(twinPorts) {
				k := twinKey{index, class, port}
				if !restored[k] {
					tw.port(k).state = StateHost
				}
				tw.follow(k)
			}
		}
	}
}

func (tw *twin) newAllocator(w *twinWorker) {
	var seed [48]byte
	for i := range seed {
		seed[i] = byte(tw.r.Uint32())
	}
	w.nowMS = milliseconds(tw.now)
	w.alloc = newAllocator(AllocatorOptions{
		Owners: tw.owners, Worker: w.id, MaxPortsPerOwner: tw.quota, Now: tw.now,
		Taken: func(t packet.Tuple) FlowID {
			if f := w.tuples[t]; f != nil {
				return f.id
			}
			return 0
		},
		Evict: func(id FlowID) { tw.evict(w, id) },
	}, seed)
	w.alloc.many = 8
}

// check compares everything that there is.
func (tw *twin) check() {
	for index := range twinAddresses {
		for class := range Class(Classes) {
			tw.checkSlot(index, class)
		}
	}
	replies := map[packet.Tuple]bool{}
	for _, w := range tw.workers {
		tw.checkWorker(w)
		for _, f := range w.flows {
			if f.foreign || f.closed {
				continue
			}
			if replies[f.reply] {
				tw.Fatalf("two live flows have the reply tuple %+v", f.reply)
			}
			replies[f.reply] = true
		}
	}
}

func (tw *twin) checkSlot(index int, class Class) {
	s := tw.owners.slot(index, class)
	var n PortCounts
	var freeIn, heldIn [blockCount]int32
	var used [MaxWorkers]int32
	var conflicts []uint16
	for port := range twinPorts {
		k := twinKey{index, class, uint16(port)}
		p := tw.port(k)
		if got := tw.owners.State(index, class, k.port); got != p.state {
			tw.Fatalf("%+v is %d, want %d", k, got, p.state)
		}
		if s.isOurs(k.port) != p.ours() || s.free[port/64].Load()>>(port%64)&1 != 0 != (p.state == StateFree) {
			tw.Fatalf("%+v: bits of %+v", k, p)
		}
		switch {
		case p.state == StateHost:
			n.Host++
		case p.state == StateFree:
			n.Free++
			freeIn[port/blockPorts]++
		case p.state >= StateHeld:
			n.Held++
			heldIn[port/blockPorts]++
		default:
			n.Used++
			used[p.state-StateUsed]++
			if !p.ours() {
				conflicts = append(conflicts, k.port)
			}
		}
	}
	n.Host += portCount - twinPorts
	if got := tw.owners.Count(index, class); got != n {
		tw.Fatalf("%d %v: %+v, want %+v", index, class, got, n)
	}
	if got := tw.owners.Conflicts(index, class, 5); !slices.Equal(got, conflicts[:min(5, len(conflicts))]) {
		tw.Fatalf("%d %v: conflicts %v, want %v", index, class, got, conflicts)
	}
	for i := range freeIn {
		if s.freeIn[i].Load() != freeIn[i] || s.heldIn[i].Load() != heldIn[i] {
			tw.Fatalf("block %d: %d free and %d held, want %d and %d", i, s.freeIn[i].Load(), s.heldIn[i].Load(), freeIn[i], heldIn[i])
		}
	}
	for w := range used {
		if s.used[w].Load() != used[w] {
			tw.Fatalf("worker %d uses %d, want %d", w, s.used[w].Load(), used[w])
		}
	}
}

func (tw *twin) checkWorker(w *twinWorker) {
	type mappingKey struct {
		endpoint
		twinKey
	}
	mappings, owned := map[mappingKey]bool{}, map[mappingKey]uint32{}
	ports := map[twinKey]bool{}
	destinations := map[Destination]int{}
	for _, f := range w.flows {
		if f.foreign {
			continue
		}
		m := mappingKey{endpoint{f.original.Src, f.original.SrcPort, f.key.class}, f.key}
		mappings[m] = true
		ports[f.key] = true
		if !f.closed {
			owned[m] = f.owner
		}
		destinations[Destination{Addr: f.reply.Src, Port: f.reply.SrcPort, Class: f.key.class, Index: f.key.index}]++
	}
	for class := range Class(Classes) {
		m, p := 0, 0
		for k := range mappings {
			if k.twinKey.class == class {
				m++
			}
		}
		for k := range ports {
			if k.class == class {
				p++
			}
		}
		c := w.alloc.Counters(class)
		if c.Mappings != m || c.Ports != p || c.Overlapped() != m-p {
			tw.Fatalf("%v: %+v, want %d mappings on %d ports", class, c, m, p)
		}
	}
	counts := make([]uint32, max(len(w.alloc.perOwner), 8))
	for _, owner := range owned {
		counts[owner]++
	}
	for owner, n := range w.alloc.perOwner {
		if n != counts[owner] {
			tw.Fatalf("owner %d has %d ports, want %d", owner, n, counts[owner])
		}
	}
	top := w.alloc.TopDestinations(1000)
	if len(top) != len(destinations) || !slices.IsSortedFunc(top, func(x, y Destination) int { return y.Flows - x.Flows }) {
		tw.Fatalf("top destinations %+v, want %v", top, destinations)
	}
	for _, d := range top {
		key := d
		key.Flows = 0
		if destinations[key] != d.Flows {
			tw.Fatalf("%+v, want %d", d, destinations[key])
		}
	}
	for _, p := range w.alloc.pools {
		tw.checkPool(w, p)
	}
	tw.checkPortSets(w)
}

// checkPortSets compares the sets of ports of destinations with many flows.
func (tw *twin) checkPortSets(w *twinWorker) {
	want := map[uint32]*portSet{}
	for _, f := range w.flows {
		if f.foreign {
			continue
		}
		d := w.alloc.findDestination(f.reply, uint16(f.key.index*Classes+int(f.key.class)))
		if want[d] == nil {
			want[d] = new(portSet)
		}
		want[d].add(f.key.port)
	}
	sets := 0
	for d, ports := range want {
		r := w.alloc.destinations.at(d)
		if r.ports == 0 {
			continue
		}
		sets++
		if *w.alloc.portSets.at(r.ports) != *ports {
			tw.Fatalf("worker %d: the ports of %+v are not those of its flows", w.id, r)
		}
	}
	if all := len(w.alloc.portSets.sets) - len(w.alloc.portSets.free); sets != all {
		tw.Fatalf("worker %d: %d sets of ports, %d destinations have one", w.id, all, sets)
	}
}

func (tw *twin) checkPool(w *twinWorker, p *pool) {
	if p == nil {
		return
	}
	inUse := 0
	listed := map[uint16]bool{}
	for _, l := range p.held {
		for port := l.head; port != 0; port = p.port(port).next {
			listed[port] = true
		}
	}
	for port := range uint16(twinPorts) {
		state := tw.port(twinKey{p.index(), p.class(), port}).state
		if p.used.has(port) != (state == Used(w.id)) {
			tw.Fatalf("worker %d, port %d: in use %v, state %d", w.id, port, p.used.has(port), state)
		}
		if p.used.has(port) {
			inUse++
		}
		if state == Held(w.id) && !listed[port] {
			tw.Fatalf("worker %d holds port %d and has not listed it", w.id, port)
		}
	}
	if p.inUse != inUse {
		tw.Fatalf("worker %d: %d in use, want %d", w.id, p.inUse, inUse)
	}
}

func newTwin(t *testing.T, seed uint64) *twin {
	tw := &twin{T: t, r: rand.New(rand.NewPCG(seed, 1)), mem: make([]byte, twinAddresses*AddressSize), now: 1e15}
	tw.classes = [][]Class{{ClassTCP}, {ClassUDP, ClassICMP}, {ClassSCTP}}[tw.r.IntN(3)]
	tw.quota = []int{0, 0, 6, 40}[tw.r.IntN(4)]
	var err error
	if tw.owners, err = NewOwners(tw.mem, twinAddresses); err != nil {
		t.Fatal(err)
	}
	for id := range 1 + tw.r.IntN(3) {
		w := &twinWorker{id: id, tuples: map[packet.Tuple]*twinFlow{}}
		for i := range FlowID(400) {
			w.unused = append(w.unused, 400-i)
		}
		tw.newAllocator(w)
		tw.workers = append(tw.workers, w)
	}
	tw.owners.FinishRestore()
	for index := range twinAddresses {
		tw.ranges[index] = tw.randomRange()
		tw.configure(index)
		for class := range Class(Classes) {
			for port := range uint16(twinPorts) {
				tw.follow(twinKey{index, class, port})
			}
		}
	}
	return tw
}

// Whatever happens to flows, ports and ranges, the allocator does what its slow
// twin does. -operations 10000000 is the long form.
func TestAllocatorIsTheSlowTwin(t *testing.T) {
	const each = 5000
	n := *operations
	if raceEnabled || testing.Short() {
		n /= 10
	}
	granted, refused := 0, 0
	for seed := range uint64(max(1, n/each)) {
		tw := newTwin(t, seed)
		for i := range each {
			if i%500 == 0 {
				tw.fill = 30 + tw.r.IntN(60)
			}
			tw.step()
			if i%1000 == 999 {
				tw.check()
			}
			if t.Failed() {
				return
			}
		}
		granted, refused = granted+tw.granted, refused+tw.refused
	}
	t.Logf("%d ports granted, %d flows refused", granted, refused)
	if granted == 0 || refused == 0 {
		t.Error("one of the two was not tested")
	}
}

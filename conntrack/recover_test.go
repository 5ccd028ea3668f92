package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
	"ringway/packet"
)

// stateFile makes a file with 20 UDP flows, every second one answered, and 10
// closed connections.
func stateFile(t testing.TB, o Options) string {
	t.Helper()
	o.Path = filepath.Join(t.TempDir(), "flows")
	table := open(t, o)
	for i := range 20 {
		id := create(t, table, translated(udpTuple(i)), start)
		table.Update(id.Ref(Original), datagram(packet.ProtoUDP), start)
		if i%2 == 0 {
			table.Update(id.Ref(Reply), datagram(packet.ProtoUDP), start)
		}
	}
	for i := range 10 {
		id := create(t, table, plain(tupleOf(packet.ProtoTCP, i)), start)
		table.Update(id.Ref(Original), tcpPacket(packet.TCPSyn, 0, 0, 1000, -1, 0), start)
	}
	closeTable(t, table)
	return o.Path
}

func TestRestart(t *testing.T) {
	limit := NewLimit(1000)
	path := filepath.Join(t.TempDir(), "flows")
	o := Options{Path: path, Quota: 5, MaxOwners: 10, Limit: limit}
	table := open(t, o)
	if r := table.Recovery(); r != (Recovery{ColdStart: NoStateFile}) {
		t.Errorf("%+v", r)
	}
	n := translated(udpTuple(1))
	n.Owner, n.User, n.Rule, n.Flags, n.Generation = 3, [2]uint32{4, 5}, 6, 7, 8
	id := create(t, table, n, start)
	table.Update(id.Ref(Original), datagram(packet.ProtoUDP), start+second)
	before := *table.Flow(id)
	closed := closeConnection(t, table, 1, start+second)
	gone := create(t, table, plain(udpTuple(2)), start)
	table.Delete(gone)
	create(t, table, plain(packet.Tuple{Src: 1, Dst: 2, Proto: packet.ProtoICMP}), start)
	closeTable(t, table)
	if limit.Used() != 0 {
		t.Errorf("%d flows count for the limit of a closed table", limit.Used())
	}

	o.Now = start + 100*second
	table = open(t, o)
	if r := table.Recovery(); r != (Recovery{Flows: 2, Expired: 1}) {
		t.Errorf("%+v", r)
	}
	checkTable(t, table)
	after := *table.Flow(id)
	before.next, before.prev, before.older, before.newer, before.slot = after.next, after.prev, after.older, after.newer, after.slot
	if after != before {
		t.Errorf("%+v, want %+v", after, before)
	}
	if table.Flow(closed).State() != StateTimeWait || table.Lookup(n.Reply, o.Now) != id.Ref(Reply) || table.Owned(3) != 1 || limit.Used() != 2 {
		t.Error("the table is not what it was")
	}
	if got := create(t, table, plain(udpTuple(3)), o.Now); got != gone {
		t.Errorf("record %d is used next, not the lowest", got)
	}
	if table.Tick(start+301*second+tick, 100) != 2 {
		t.Errorf("%+v", table.Counters())
	}
}

// A table that was full once is not read to where it was full for ever.
func TestRestartForgetsUnusedRecords(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "flows")}
	table := open(t, o)
	fillUp(t, table, 0, 500, start)
	for i := 10; i < 500; i++ {
		table.Delete(table.Lookup(udpTuple(i), start).ID())
	}
	closeTable(t, table)
	table = open(t, o)
	if top := table.memory.header.top; table.Len() != 10 || top != 10 {
		t.Errorf("%d flows in %d records", table.Len(), top)
	}
	if id := create(t, table, plain(udpTuple(10)), start); id != 11 {
		t.Errorf("record %d is used", id)
	}
	checkTable(t, table)
}

// Shorter timeouts hold for the flows that there are, too; longer ones do no
// harm.
func TestRestartWithOtherTimeouts(t *testing.T) {
	path := stateFile(t, Options{})
	o := Options{Path: path, Now: start + second, Timeouts: DefaultTimeouts()}
	o.Timeouts.UDP = 50 * time.Second
	table := open(t, o)
	if r := table.Recovery(); r.Flows != 30 {
		t.Errorf("%+v", r)
	}
	ref := table.Lookup(udpTuple(1), o.Now)
	if got := left(table, ref.ID(), o.Now); got != 50*time.Second {
		t.Errorf("%v left", got)
	}
	checkTable(t, table)
}

func TestRestartIntoSmallerLimitKeepsAll(t *testing.T) {
	path := stateFile(t, Options{})
	limit := NewLimit(5)
	table := open(t, Options{Path: path, Limit: limit})
	if table.Len() != 30 || limit.Used() != 30 {
		t.Errorf("%d flows, %d used", table.Len(), limit.Used())
	}
	if _, r := table.Create(plain(udpTuple(99)), start); r != Full {
		t.Errorf("%v", r)
	}
}

// header edits a file's header.
func editHeader(t *testing.T, path string, edit func(*header)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edit((*header)(unsafe.Pointer(&b[0])))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestColdStart(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*header)
		o    Options
	}{
		"magic":             {edit: func(h *header) { h.magic++ }},
		"version":           {edit: func(h *header) { h.version++ }},
		"record size":       {edit: func(h *header) { h.recordSize *= 2 }},
		"capacity":          {edit: func(h *header) { h.capacity++ }},
		"top":               {edit: func(h *header) { h.top = h.capacity + 1 }},
		"boot id":           {edit: func(h *header) { h.bootID[0]++ }},
		"shard in file":     {edit: func(h *header) { h.shard++ }},
		"other boot":        {o: Options{BootID: "another"}},
		"other capacity":    {o: Options{Capacity: 999}},
		"other shard":       {o: Options{Shard: 1}},
		"other shards":      {o: Options{Shards: 2}},
		"clock before":      {o: Options{Now: start - 10*second}},
		"clock far ahead":   {o: Options{Now: start + 8*24*3600*second}},
		"never any time at": {edit: func(h *header) { h.seen = -1 << 62 }},
	} {
		t.Run(name, func(t *testing.T) {
			path := stateFile(t, Options{})
			if c.edit != nil {
				editHeader(t, path, c.edit)
			}
			o := c.o
			o.Path = path
			table := open(t, o)
			r := table.Recovery()
			if r.ColdStart == "" || r.ColdStart == NoStateFile || r.Flows != 0 || table.Len() != 0 {
				t.Fatalf("%+v", r)
			}
			now := max(o.Now, start)
			fillUp(t, table, 0, 10, now)
			checkTable(t, table)
			closeTable(t, table)
			o.Now = now
			if table = open(t, o); table.Len() != 10 {
				t.Errorf("the next start finds %+v", table.Recovery())
			}
		})
	}
}

func TestTruncated(t *testing.T) {
	path := stateFile(t, Options{Capacity: 30})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(whole) {
		if size%61 != 0 && size != headerSize {
			continue
		}
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		table := open(t, Options{Path: path, Capacity: 30})
		if r := table.Recovery(); r.ColdStart == "" || table.Len() != 0 {
			t.Fatalf("%d bytes: %+v", size, r)
		}
		closeTable(t, table)
	}
	// Longer is as wrong.
	if err := os.WriteFile(path, append(whole, make([]byte, 128)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := open(t, Options{Path: path, Capacity: 30}).Recovery(); r.ColdStart == "" {
		t.Errorf("%+v", r)
	}
}

// One bit that is wrong costs at most one flow, or all: never is there one that
// was not there before.
func TestFlippedBits(t *testing.T) {
	path := stateFile(t, Options{Capacity: 30})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	known := map[[2]packet.Tuple]bool{}
	table := open(t, Options{Path: path, Capacity: 30})
	for _, f := range table.All() {
		known[[2]packet.Tuple{f.Original(), f.Reply()}] = true
	}
	closeTable(t, table)
	rnd := rand.New(rand.NewPCG(9, 10))
	for range 3000 {
		bit := rnd.IntN(8 * len(whole))
		if rnd.IntN(10) == 0 {
			bit = rnd.IntN(8 * int(unsafe.Sizeof(header{})))
		}
		whole[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		table := open(t, Options{Path: path, Capacity: 30, Now: start + second})
		checkTable(t, table)
		if r := table.Recovery(); r.ColdStart == "" && r.Flows < 29 && bit/8 >= headerSize {
			t.Fatalf("bit %d: %+v", bit, r)
		}
		for _, f := range table.All() {
			if !known[[2]packet.Tuple{f.Original(), f.Reply()}] {
				t.Fatalf("bit %d: there is a flow %v, %v", bit, f.Original(), f.Reply())
			}
		}
		closeTable(t, table)
		whole[bit/8] ^= 1 << (bit % 8)
	}
}

// Each record field that is out of range makes the record invalid, even where
// its seal is right.
func TestImplausibleRecords(t *testing.T) {
	for name, edit := range map[string]func(*Flow){
		"family":       func(f *Flow) { f.head ^= 0x300 },
		"state":        func(f *Flow) { f.head = f.head.withState(NumStates) },
		"wrong states": func(f *Flow) { f.head = f.head.withState(StateEstablished) },
		"status":       func(f *Flow) { f.head = f.head.with(0x80) },
		"translated":   func(f *Flow) { f.head ^= head(statusTranslated) << 24 },
		"class":        func(f *Flow) { f.class = classICMP },
		"created":      func(f *Flow) { f.created = start + 100*second },
		"deadline":     func(f *Flow) { f.deadline += instant(8 * 24 * 3600 * 1000) },
		"same tuples":  func(f *Flow) { f.tuples[Reply] = f.tuples[Original] },
	} {
		path := stateFile(t, Options{})
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := (*Flow)(unsafe.Pointer(&b[headerSize+5*RecordSize]))
		edit(f)
		f.check = f.seal()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		table := open(t, Options{Path: path, Now: start + second})
		if r := table.Recovery(); r.Flows != 29 || r.Invalid != 1 || table.Flow(5) != nil {
			t.Errorf("%s: %+v", name, r)
		}
		checkTable(t, table)
	}
}

func TestDuplicateTuple(t *testing.T) {
	path := stateFile(t, Options{})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[headerSize+9*RecordSize:][:RecordSize], b[headerSize+8*RecordSize:])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	table := open(t, Options{Path: path})
	if r := table.Recovery(); r.Flows != 29 || r.Invalid != 1 || table.Flow(8) == nil || table.Flow(9) != nil {
		t.Errorf("%+v", r)
	}
	checkTable(t, table)
}

// Whatever the moment, a copy of the file gives the flows of that moment.
func TestCopiedAtAnyTime(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "flows"), filepath.Join(dir, "copy")
	table := open(t, Options{Path: path, Capacity: 200})
	rnd := rand.New(rand.NewPCG(11, 12))
	now := start
	for range 300 {
		for range rnd.IntN(50) {
			now += rnd.Int64N(second)
			workload(table, rnd, now)
			table.Tick(now, 1000)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, b, 0o600); err != nil {
			t.Fatal(err)
		}
		again := open(t, Options{Path: copied, Capacity: 200, Now: now})
		checkTable(t, again)
		expired := 0
		for id, f := range table.All() {
			if f.Expired(now) {
				expired++
			} else if g := again.Flow(id); g == nil || g.Original() != f.Original() || g.State() != f.State() || g.deadline != f.deadline {
				t.Fatalf("flow %d", id)
			}
		}
		if r := again.Recovery(); r != (Recovery{Flows: table.Len() - expired, Expired: expired}) {
			t.Fatalf("%+v, %d flows, %d expired", r, table.Len(), expired)
		}
		closeTable(t, again)
	}
}

// workload does something to some flow: its reply tuple follows from the
// original, and its user words, too.
func workload(table *Table, rnd *rand.Rand, now int64) {
	i := rnd.IntN(300)
	n := translated(udpTuple(i))
	n.User = [2]uint32{n.Original.Src, uint32(n.Original.SrcPort)}
	r := table.Lookup(n.Original, now)
	switch {
	case r == 0:
		table.Create(n, now)
	case rnd.IntN(4) == 0:
		table.Delete(r.ID())
	default:
		table.Update(r.ID().Ref(Dir(rnd.IntN(2))), datagram(packet.ProtoUDP), now)
	}
}

// childEnv names the file that a child process works on until it is killed.
const childEnv = "CONNTRACK_TEST_FILE"

// TestMain runs the tests, or as such a child the workload.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		runChild(path)
	}
	os.Exit(m.Run())
}

func runChild(path string) {
	table, err := Open(Options{Path: path, Capacity: 200, Now: start, Shards: 1, BootID: bootID})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	fmt.Print("x")
	for {
		workload(table, rnd, start)
	}
}

func TestKilledAtAnyInstruction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows")
	rnd := rand.New(rand.NewPCG(13, 14))
	for round := range 25 {
		kill(t, path, time.Duration(rnd.IntN(3000))*time.Microsecond)
		table := open(t, Options{Path: path, Capacity: 200})
		checkTable(t, table)
		if r := table.Recovery(); r.ColdStart != "" || r.Invalid > 0 || r.Flows == 0 {
			t.Errorf("round %d: %+v", round, r)
		}
		for id, f := range table.All() {
			want := translated(f.Original())
			if f.Reply() != want.Reply || f.User(0) != want.Original.Src || f.User(1) != uint32(want.Original.SrcPort) || f.Owner() != NoOwner {
				t.Errorf("round %d: flow %d is half written: %+v", round, id, f)
			}
		}
		closeTable(t, table)
	}
}

// kill starts a child and kills it some time after it began to work.
func kill(t *testing.T, path string, after time.Duration) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	child, err := os.StartProcess(exe, []string{exe}, &os.ProcAttr{Env: append(os.Environ(), childEnv+"="+path), Files: []*os.File{nil, w, os.Stderr}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Errorf("the child does not begin: %v", err)
	}
	time.Sleep(after)
	if err := child.Kill(); err != nil {
		t.Error(err)
	}
	if _, err := child.Wait(); err != nil {
		t.Error(err)
	}
}

func TestFileIsLocked(t *testing.T) {
	path := stateFile(t, Options{})
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: path, Capacity: 1000, Now: start, Shards: 1, BootID: bootID}); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("%v", err)
	}
	// A process that is being torn down lets go of it before long.
	unlocked := make(chan error, 1)
	fd := int(file.Fd())
	time.AfterFunc(50*time.Millisecond, func() { unlocked <- unix.Flock(fd, unix.LOCK_UN) })
	if table := open(t, Options{Path: path}); table.Len() != 30 {
		t.Errorf("%+v", table.Recovery())
	}
	if err := <-unlocked; err != nil {
		t.Error(err)
	}
}

// A tmpfs that is full is a full table, and no SIGBUS.
func TestNoSpace(t *testing.T) {
	netnstest.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	table := open(t, Options{Path: filepath.Join(dir, "flows"), Capacity: 100_000})
	n := 0
	for ; n < 100_000; n++ {
		if _, r := table.Create(plain(udpTuple(n)), start); r != Created {
			break
		}
	}
	if n < 6000 || n > 8192 {
		t.Errorf("%d flows fit into 1 MiB", n)
	}
	table.Delete(table.Lookup(udpTuple(5), start).ID())
	create(t, table, plain(udpTuple(n)), start)
	checkTable(t, table)
	if _, err := Open(Options{Path: filepath.Join(dir, "more"), Capacity: 1000, Now: start}); err == nil {
		t.Error("a second table opens where there is no space for it")
	}
	closeTable(t, table)
}

// What a large table takes as long as it is empty.
func TestFileIsSparse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows")
	table := open(t, Options{Path: path, Capacity: 1 << 20})
	blocks := func() int64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	if n := blocks(); n > chunk {
		t.Errorf("%d bytes for no flow", n)
	}
	fillUp(t, table, 0, 5000, start)
	if n := blocks(); n > 3*chunk {
		t.Errorf("%d bytes for 5000 flows", n)
	}
	if n := MemoryBytes(1 << 20); n < 160<<20 || n > 161<<20 {
		t.Errorf("%d bytes for 2^20 flows", n)
	}
}

func TestReadFileAndAdopt(t *testing.T) {
	path := stateFile(t, Options{Shard: 1, Shards: 2})
	limit := NewLimit(3)
	a, b := open(t, Options{Shards: 3, Limit: limit}), open(t, Options{Shards: 3, Shard: 1, Limit: limit})
	now := start + second
	i := 0
	if err := ReadFile(path, bootID, now, func(f *Flow) bool {
		to := a
		if i++; i%2 == 0 {
			to = b
		}
		id, r := to.Adopt(f, now)
		if r != Created {
			t.Errorf("%v", r)
		}
		g := *to.Flow(id)
		g.next, g.prev, g.older, g.newer, g.slot = f.next, f.prev, f.older, f.newer, f.slot
		if g != *f {
			t.Errorf("%+v, want %+v", g, f)
		}
		if _, r := to.Adopt(f, now); r != Clash {
			t.Errorf("twice: %v", r)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if a.Len() != 15 || b.Len() != 15 || limit.Used() != 30 || a.Recovery().Flows != 15 {
		t.Errorf("%d and %d flows, %d used", a.Len(), b.Len(), limit.Used())
	}
	checkTable(t, a)
	checkTable(t, b)
	n := 0
	if err := ReadFile(path, bootID, start+299*second, func(*Flow) bool { n++; return n < 7 }); err != nil || n != 7 {
		t.Errorf("stopped after %d, %v", n, err)
	}
	n = 0
	if err := ReadFile(path, bootID, start+250*second, func(*Flow) bool { n++; return true }); err != nil || n != 20 {
		t.Errorf("%d flows have not expired, %v", n, err)
	}
	if _, r := open(t, Options{Capacity: 1}).Adopt(a.Flow(1), now); r != Created {
		t.Errorf("%v", r)
	}
}

func TestAdoptIntoFullTable(t *testing.T) {
	path := stateFile(t, Options{})
	table := open(t, Options{Capacity: 5})
	fillUp(t, table, 1000, 1005, start)
	answer(t, table, 1000, 1005, start)
	n := 0
	if err := ReadFile(path, bootID, start, func(f *Flow) bool {
		_, r := table.Adopt(f, start)
		n++
		return r == Full
	}); err != nil || n != 30 || table.Counters().Full != 30 {
		t.Errorf("%d, %v, %+v", n, err, table.Counters())
	}
}

func TestReadFileRefuses(t *testing.T) {
	path := stateFile(t, Options{})
	fail := func(*Flow) bool { t.Error("a flow"); return true }
	if ReadFile(path, "another", start, fail) == nil || ReadFile(path+"x", bootID, start, fail) == nil {
		t.Error("no error")
	}
	if err := os.Truncate(path, 20); err != nil {
		t.Fatal(err)
	}
	if ReadFile(path, bootID, start, fail) == nil {
		t.Error("no error for 20 bytes")
	}
	// A file that ends early gives what it has.
	path = stateFile(t, Options{})
	if err := os.Truncate(path, headerSize+10*RecordSize+5); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := ReadFile(path, bootID, start, func(*Flow) bool { n++; return true }); err != nil || n != 9 {
		t.Errorf("%d flows, %v", n, err)
	}
}

// FuzzOpen damages a good file: the input is a length, and then places and what
// stands there.
func FuzzOpen(f *testing.F) {
	path := stateFile(f, Options{Capacity: 40})
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{0, 16, 0x10, 0x18, 0xff})
	f.Fuzz(func(t *testing.T, edits []byte) {
		b := append([]byte{}, good...)
		if len(edits) >= 2 {
			if n := int(binary.LittleEndian.Uint16(edits)); n%2 == 1 {
				b = b[:min(n/2, len(b))]
			}
			edits = edits[2:]
		}
		for ; len(edits) >= 3; edits = edits[3:] {
			if at := int(binary.LittleEndian.Uint16(edits)); at < len(b) {
				b[at] = edits[2]
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		now := start + second
		read := 0
		readErr := ReadFile(path, bootID, now, func(*Flow) bool { read++; return true })
		table, err := Open(Options{Path: path, Capacity: 40, Now: now, Shards: 1, BootID: bootID})
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		checkTable(t, table)
		if r := table.Recovery(); r.ColdStart == "" && (readErr != nil || read < r.Flows) {
			t.Fatalf("ReadFile gives %d flows and %v, Open %+v", read, readErr, r)
		}
		rnd := rand.New(rand.NewPCG(1, 1))
		for range 200 {
			now += rnd.Int64N(10 * second)
			workload(table, rnd, now)
			table.Tick(now, 100)
		}
		checkTable(t, table)
		table.Tick(now+int64(MaxTimeout), 1000)
		table.Tick(now+int64(MaxTimeout)+700*second, 1000)
		if table.Len() != 0 {
			t.Fatalf("%d flows live for ever", table.Len())
		}
	})
}

package conntrack

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"ringway/packet"
)

// The layout of a file that a later version has to read: whoever changes it
// changes layoutVersion.
func TestLayout(t *testing.T) {
	var f Flow
	var h header
	const hot = 64
	for name, c := range map[string]struct{ at, want uintptr }{
		"tuples":     {unsafe.Offsetof(f.tuples), 0},
		"head":       {unsafe.Offsetof(f.head), 24},
		"deadline":   {unsafe.Offsetof(f.deadline), 28},
		"packets":    {unsafe.Offsetof(f.packets), 32},
		"flags":      {unsafe.Offsetof(f.flags), 36},
		"tcp":        {unsafe.Offsetof(f.tcp), 37},
		"scales":     {unsafe.Offsetof(f.scales), 38},
		"class":      {unsafe.Offsetof(f.class), 39},
		"bytes":      {unsafe.Offsetof(f.bytes), 40},
		"ack":        {unsafe.Offsetof(f.ack), 48},
		"window":     {unsafe.Offsetof(f.window), 56},
		"generation": {unsafe.Offsetof(f.generation), hot - 4},
		"packetsHi":  {unsafe.Offsetof(f.packetsHi), hot},
		"bytesHi":    {unsafe.Offsetof(f.bytesHi), 72},
		"created":    {unsafe.Offsetof(f.created), 80},
		"owner":      {unsafe.Offsetof(f.owner), 88},
		"rule":       {unsafe.Offsetof(f.rule), 92},
		"user":       {unsafe.Offsetof(f.user), 96},
		"awaited":    {unsafe.Offsetof(f.awaited), 120},
		"check":      {unsafe.Offsetof(f.check), 126},
		"h.capacity": {unsafe.Offsetof(h.capacity), 16},
		"h.top":      {unsafe.Offsetof(h.top), 28},
		"h.seen":     {unsafe.Offsetof(h.seen), 32},
		"h.bootID":   {unsafe.Offsetof(h.bootID), 40},
		"size":       {unsafe.Sizeof(f), RecordSize},
		"version":    {layoutVersion, 1},
	} {
		if c.at != c.want {
			t.Errorf("%s is at %d, not %d", name, c.at, c.want)
		}
	}
	table := open(t, Options{Capacity: 3})
	for id := range table.flows {
		if uintptr(unsafe.Pointer(&table.flows[id]))%hot != 0 {
			t.Errorf("record %d does not begin a cache line", id)
		}
	}
}

func TestFlowSaysWhatWasCreated(t *testing.T) {
	table := open(t, Options{MaxOwners: 10})
	n := New{
		Original:   packet.Tuple{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, Proto: packet.ProtoTCP},
		Reply:      packet.Tuple{Src: 2, Dst: 5, SrcPort: 4, DstPort: 6, Proto: packet.ProtoTCP},
		Owner:      7,
		Rule:       8,
		Generation: 9,
		Flags:      0xa5,
		User:       [2]uint32{10, 11},
	}
	id := create(t, table, n, start)
	f := table.Flow(id)
	if f.Original() != n.Original || f.Reply() != n.Reply || f.Tuple(Reply) != n.Reply || f.Proto() != packet.ProtoTCP {
		t.Errorf("%v, %v", f.Original(), f.Reply())
	}
	if f.Owner() != 7 || f.Rule() != 8 || f.Generation() != 9 || f.Flags() != 0xa5 || f.User(0) != 10 || f.User(1) != 11 {
		t.Errorf("%+v", f)
	}
	if !f.Translated() || f.Assured() || f.State() != StateNew || f.Created() != start || f.Expired(start) {
		t.Errorf("%+v", f)
	}
	f.SetUser(1, 12)
	f.SetFlags(1)
	f.SetGeneration(13)
	if f.User(0) != 10 || f.User(1) != 12 || f.Flags() != 1 || f.Generation() != 13 {
		t.Errorf("%+v", f)
	}
	if table.Flow(0) != nil || table.Flow(id+1) != nil || table.Flow(1<<30) != nil {
		t.Error("there are flows that nobody made")
	}
	ref := id.Ref(Reply)
	if ref.ID() != id || ref.Dir() != Reply || id.Ref(Original).Dir() != Original {
		t.Errorf("ref %d", ref)
	}
	if f = table.Flow(create(t, table, plain(udpTuple(1)), start)); f.Translated() {
		t.Error("a flow without NAT is translated")
	}
}

func TestTranslation(t *testing.T) {
	original := tuple{src: 1, dst: 2, ports: 3<<16 | 4}
	for _, c := range []struct {
		name  string
		reply tuple
		want  status
	}{
		{"none", original.reverse(), 0},
		{"source address", tuple{src: 2, dst: 9, ports: 4<<16 | 3}, statusTranslated | statusSourceTranslated},
		{"source port", tuple{src: 2, dst: 1, ports: 4<<16 | 9}, statusTranslated | statusSourceTranslated},
		{"destination address", tuple{src: 9, dst: 1, ports: 4<<16 | 3}, statusTranslated},
		{"destination port", tuple{src: 2, dst: 1, ports: 9<<16 | 3}, statusTranslated},
	} {
		if got := translation(original, c.reply); got != c.want {
			t.Errorf("%s: %b, want %b", c.name, got, c.want)
		}
	}
}

func TestTimeoutsValidate(t *testing.T) {
	if err := DefaultTimeouts().Validate(); err != nil {
		t.Error(err)
	}
	for _, value := range []time.Duration{0, -1, time.Millisecond - 1, MaxTimeout + 1} {
		timeouts := DefaultTimeouts()
		timeouts.DNSAnswered = value
		if err := timeouts.Validate(); err == nil || !strings.Contains(err.Error(), "DNSAnswered") {
			t.Errorf("%v: %v", value, err)
		}
		if _, err := Open(Options{Capacity: 1, Timeouts: timeouts}); err == nil {
			t.Errorf("%v: a table opens", value)
		}
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	for name, o := range map[string]Options{
		"no capacity":       {},
		"negative capacity": {Capacity: -1},
		"large capacity":    {Capacity: MaxCapacity + 1},
		"negative quota":    {Capacity: 1, Quota: -1},
		"negative owners":   {Capacity: 1, MaxOwners: -1},
		"negative time":     {Capacity: 1, Now: -1},
		"long boot id":      {Capacity: 1, BootID: strings.Repeat("x", 41)},
		"no directory":      {Capacity: 1, Path: t.TempDir() + "/no/such"},
		"a directory":       {Capacity: 1, Path: t.TempDir()},
	} {
		if table, err := Open(o); err == nil {
			table.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNames(t *testing.T) {
	for state := range NumStates {
		if state.String() == "" || state.String() == "INVALID" {
			t.Errorf("state %d: %q", state, state.String())
		}
	}
	got := fmt.Sprint(NumStates, Original, Reply, Created, Full, OverQuota, Clash, Result(9))
	if want := "INVALID original reply created full over quota clash invalid"; got != want {
		t.Errorf("%s", got)
	}
}

func TestRangeInChunks(t *testing.T) {
	table := open(t, Options{})
	fillUp(t, table, 0, 100, start)
	for i := 0; i < 100; i += 3 {
		table.Delete(table.Lookup(udpTuple(i), start).ID())
	}
	seen, rounds := map[packet.Tuple]bool{}, 0
	for id := ID(1); id != 0; rounds++ {
		id = table.Range(id, 7, func(_ ID, f *Flow) bool {
			seen[f.Original()] = true
			return true
		})
	}
	if len(seen) != 66 || rounds != 15 {
		t.Errorf("%d flows in %d chunks", len(seen), rounds)
	}
	n := 0
	for id, f := range table.All() {
		if table.Flow(id) != f {
			t.Errorf("flow %d", id)
		}
		if n++; n == 10 {
			break
		}
	}
	if n != 10 {
		t.Errorf("%d flows", n)
	}
	stopped := table.Range(1, 1000, func(id ID, _ *Flow) bool { return id < 50 })
	if stopped != 51 {
		t.Errorf("goes on from %d", stopped)
	}
	for range open(t, Options{}).All() {
		t.Error("an empty table has a flow")
	}
}

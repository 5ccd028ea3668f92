package conntrack

import (
	"testing"
	"time"

	"ringway/packet"
)

// sent plays datagrams: who sends, when, and what is left of the flow then.
type sent struct {
	at   time.Duration
	dir  Dir
	left time.Duration
}

func TestDatagramTimeouts(t *testing.T) {
	dns := tupleOf(packet.ProtoUDP, 1)
	dns.DstPort = 53
	echo := packet.Tuple{Src: 1, Dst: 2, SrcPort: 77, Proto: packet.ProtoICMP}
	const s = time.Second
	for _, c := range []struct {
		name    string
		new     New
		options Options
		packets []sent
	}{
		{"UDP, both sides keep it", plain(udpTuple(1)), Options{}, []sent{
			{0, Original, 300 * s}, {100 * s, Original, 300 * s}, {200 * s, Reply, 300 * s}, {490 * s, Reply, 300 * s}, {789999 * time.Millisecond, Original, 300 * s}}},
		{"UDP from outside keeps no mapping", translated(udpTuple(1)), Options{}, []sent{
			{0, Original, 300 * s}, {100 * s, Reply, 200 * s}, {299 * s, Reply, s}, {299500 * time.Millisecond, Original, 300 * s}}},
		{"UDP from outside, as configured", translated(udpTuple(1)), Options{InboundRefresh: true}, []sent{
			{0, Original, 300 * s}, {100 * s, Reply, 300 * s}}},
		{"only the destination is translated", New{Original: udpTuple(1), Owner: NoOwner,
			Reply: packet.Tuple{Src: 9, Dst: udpTuple(1).Src, SrcPort: 99, DstPort: udpTuple(1).SrcPort, Proto: packet.ProtoUDP}}, Options{}, []sent{
			{0, Original, 300 * s}, {100 * s, Reply, 300 * s}}},
		{"ICMP", plain(echo), Options{}, []sent{{0, Original, 60 * s}, {s, Reply, 60 * s}, {50 * s, Original, 60 * s}}},
		{"GRE", plain(packet.Tuple{Src: 1, Dst: 2, Proto: packet.ProtoGRE}), Options{}, []sent{{0, Original, 120 * s}, {s, Reply, 120 * s}}},
		{"SCTP", plain(tupleOf(packet.ProtoSCTP, 1)), Options{}, []sent{{0, Original, 120 * s}, {s, Reply, 120 * s}}},
		{"DNS", plain(dns), Options{}, []sent{{0, Original, 30 * s}, {s, Reply, 5 * s}, {2 * s, Original, 30 * s}, {3 * s, Reply, 5 * s}, {4 * s, Reply, 5 * s}}},
		{"DNS, two queries at once", translated(dns), Options{}, []sent{
			{0, Original, 30 * s}, {0, Original, 30 * s}, {s, Reply, 29 * s}, {9 * s, Reply, 5 * s}}},
		{"DNS over another timeout", plain(dns), Options{Timeouts: func() Timeouts {
			t := DefaultTimeouts()
			t.DNS, t.DNSAnswered = 10*s, 20*s
			return t
		}()}, []sent{{0, Original, 10 * s}, {s, Reply, 20 * s}}},
		{"from port 53 is not DNS", plain(dns.Reverse()), Options{}, []sent{{0, Original, 300 * s}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := open(t, c.options)
			id := create(t, table, c.new, start)
			answered := false
			for _, p := range c.packets {
				now := start + int64(p.at)
				table.Tick(now, 100)
				if table.Lookup(c.new.Original, now) != id.Ref(Original) || table.Lookup(c.new.Reply, now) != id.Ref(Reply) {
					t.Fatalf("at %v: gone", p.at)
				}
				event := table.Update(id.Ref(p.dir), datagram(c.new.Original.Proto), now)
				if want := p.dir == Reply && !answered; (event == Assured) != want {
					t.Errorf("at %v: event %b", p.at, event)
				}
				answered = answered || p.dir == Reply
				if got := left(table, id, now); got != p.left {
					t.Errorf("at %v: %v left, want %v", p.at, got, p.left)
				}
				if table.Flow(id).Assured() != answered || (table.Flow(id).State() == StateReplied) != answered {
					t.Errorf("at %v: %v", p.at, table.Flow(id).State())
				}
				checkTable(t, table)
			}
			last := c.packets[len(c.packets)-1]
			expires := start + int64(last.at+last.left)
			if table.Lookup(c.new.Original, expires-1) == 0 || table.Lookup(c.new.Original, expires) != 0 {
				t.Error("it does not expire to the nanosecond")
			}
		})
	}
}

// An ICMP error about a flow says nothing of whether it lives
// (RFC 4787 REQ-12, RFC 5508 REQ-6).
func TestOtherProtocolOnlyCounts(t *testing.T) {
	table := open(t, Options{})
	id := create(t, table, plain(udpTuple(1)), start)
	table.Update(id.Ref(Original), datagram(packet.ProtoUDP), start)
	now := start + 100*second
	if e := table.Update(id.Ref(Reply), datagram(packet.ProtoICMP), now); e != 0 {
		t.Errorf("event %b", e)
	}
	f := table.Flow(id)
	if f.State() != StateUnreplied || left(table, id, now) != 200*time.Second || f.Packets(Reply) != 1 || f.Bytes(Reply) != 100 {
		t.Errorf("%v, %v left, %d packets of %d bytes", f.State(), left(table, id, now), f.Packets(Reply), f.Bytes(Reply))
	}
}

func TestCountersCarry(t *testing.T) {
	table := open(t, Options{})
	id := create(t, table, plain(udpTuple(1)), start)
	p := datagram(packet.ProtoUDP)
	p.L3, p.End = 0, 65535
	for range 200_000 {
		table.Update(id.Ref(Reply), p, start)
	}
	f := table.Flow(id)
	if f.Packets(Reply) != 200_000 || f.Bytes(Reply) != 200_000*65535 || f.Packets(Original) != 0 || f.Bytes(Original) != 0 {
		t.Errorf("%d packets of %d bytes", f.Packets(Reply), f.Bytes(Reply))
	}
}

func TestUpdateOfNoFlow(t *testing.T) {
	table := open(t, Options{})
	id := create(t, table, plain(udpTuple(1)), start)
	table.Delete(id)
	for _, r := range []Ref{0, id.Ref(Original)} {
		if e := table.Update(r, datagram(packet.ProtoUDP), start); e != 0 {
			t.Errorf("event %b", e)
		}
	}
	checkTable(t, table)
}

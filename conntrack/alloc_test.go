package conntrack

import (
	"testing"

	"ringway/packet"
)

// Nothing that happens per packet, per flow or per round allocates.
func TestNoAllocations(t *testing.T) {
	table := open(t, Options{Capacity: 120, Quota: 90, MaxOwners: 2, Limit: NewLimit(1000), Removed: func(ID, *Flow) {}})
	udp, tcp := datagram(packet.ProtoUDP), tcpPacket(packet.TCPAck, 1, 1, 1000, -1, 100)
	syn, fin := tcpPacket(packet.TCPSyn, 0, 0, 1000, 7, 0), tcpPacket(packet.TCPFin|packet.TCPAck, 1, 1, 1000, -1, 0)
	var l Lookups
	l.N = packet.BatchSize
	for i := range l.Tuples {
		l.Tuples[i] = udpTuple(i)
	}
	now, i := start, 0
	if n := testing.AllocsPerRun(2000, func() {
		i++
		now += second
		if id, r := table.Create(plain(udpTuple(i)), now); r == Created {
			table.Update(id.Ref(Original), udp, now)
			if i%2 == 0 {
				table.Update(id.Ref(Reply), udp, now)
			}
		}
		if id, r := table.Create(translated(tupleOf(packet.ProtoTCP, i)), now); r == Created {
			table.Update(id.Ref(Original), syn, now)
			table.Update(id.Ref(Reply), tcp, now)
			table.Update(id.Ref(Reply), fin, now)
			if i%2 == 0 {
				table.Delete(id)
			}
		}
		table.LookupBatch(&l, now)
		table.Resolve(&l, 3, now)
		table.Range(1, 50, func(ID, *Flow) bool { return true })
		table.Counters()
		table.NextDeadline()
		table.Tick(now, 100)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if c := table.Counters(); c.Expired == 0 || c.Reaped == 0 || c.Full == 0 || c.Deleted == 0 {
		t.Errorf("not everything happened: %+v", c)
	}
}

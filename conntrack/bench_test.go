package conntrack

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"ringway/packet"
)

// flowCounts are the sizes that look-ups are compared at.
var flowCounts = []int{1_000, 100_000, 1_000_000}

// filled is a table of 2^20 flows with so many in it, and their tuples in random
// order.
func filled(b *testing.B, n int) (*Table, []packet.Tuple) {
	table, err := Open(Options{Path: filepath.Join(b.TempDir(), "flows"), Capacity: 1 << 20, Shards: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if table.memory.bytes != nil {
			closeTable(b, table)
		}
	})
	tuples := make([]packet.Tuple, n)
	for i := range tuples {
		tuples[i] = udpTuple(i)
		if _, r := table.Create(plain(tuples[i]), 0); r != Created {
			b.Fatal(r)
		}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { tuples[i], tuples[j] = tuples[j], tuples[i] })
	return table, tuples
}

// next puts 64 tuples into the batch, from where the last ones ended.
func (l *Lookups) next(tuples []packet.Tuple, from int) int {
	l.N = packet.BatchSize
	for i := range l.Tuples {
		l.Tuples[i] = tuples[from]
		if from++; from == len(tuples) {
			from = 0
		}
	}
	return from
}

// BenchmarkLookupBatch gives the time for a packet, over flows in random order.
func BenchmarkLookupBatch(b *testing.B) {
	for _, n := range flowCounts {
		table, tuples := filled(b, n)
		p := datagram(packet.ProtoUDP)
		var l Lookups
		for _, c := range []struct {
			name string
			do   func()
		}{
			{"hit", func() { table.LookupBatch(&l, 0) }},
			{"hit and update", func() {
				table.LookupBatch(&l, 0)
				for _, r := range l.Refs {
					table.Update(r, p, 0)
				}
			}},
			{"miss", func() {
				for i := range l.Tuples {
					l.Tuples[i].Dst++
				}
				table.LookupBatch(&l, 0)
			}},
			{"one by one", func() {
				for i, tu := range l.Tuples {
					l.Refs[i] = table.Lookup(tu, 0)
				}
			}},
		} {
			b.Run(fmt.Sprintf("%s/flows=%d", c.name, n), func(b *testing.B) {
				from := 0
				for i := 0; i < b.N; i += packet.BatchSize {
					from = l.next(tuples, from)
					c.do()
				}
				if found := l.Refs[0] != 0; found == (c.name == "miss") {
					b.Errorf("found: %v", found)
				}
			})
		}
	}
}

// BenchmarkUpdateTCP is an acknowledgment on an established connection.
func BenchmarkUpdateTCP(b *testing.B) {
	table := open(b, Options{})
	id := create(b, table, plain(tupleOf(packet.ProtoTCP, 1)), start)
	p := tcpPacket(packet.TCPAck, 1, 1, 1000, -1, 0)
	table.Update(id.Ref(Original), p, start)
	table.Update(id.Ref(Reply), p, start)
	for range b.N {
		table.Update(id.Ref(Reply), p, start)
	}
	if table.Flow(id).State() != StateEstablished {
		b.Error(table.Flow(id).State())
	}
}

// BenchmarkCreateDelete is the life of a flow among others.
func BenchmarkCreateDelete(b *testing.B) {
	for _, n := range flowCounts {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			table, _ := filled(b, n)
			b.ResetTimer()
			for i := range b.N {
				tu := udpTuple(1_000_000 + i)
				tu.DstPort++
				id, r := table.Create(plain(tu), 0)
				if r != Created {
					b.Fatal(r)
				}
				table.Delete(id)
			}
		})
	}
}

// BenchmarkExpire gives the time for a flow that Tick removes.
func BenchmarkExpire(b *testing.B) {
	table := open(b, Options{Capacity: 1 << 20})
	for done := 0; done < b.N; {
		b.StopTimer()
		n := min(b.N-done, 1<<19)
		now := start + int64(done)*second
		for i := range n {
			create(b, table, plain(udpTuple(i)), now)
		}
		b.StartTimer()
		if got := table.Tick(now+301*second, n); got != n {
			b.Fatalf("%d of %d", got, n)
		}
		done += n
	}
}

// BenchmarkOpen takes over a file, as a restart does.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			table, _ := filled(b, n)
			path := table.memory.file.Name()
			closeTable(b, table)
			for range b.N {
				again, err := Open(Options{Path: path, Capacity: 1 << 20, Shards: 1})
				if err != nil || again.Len() != n {
					b.Fatal(err, again.Recovery())
				}
				b.StopTimer()
				closeTable(b, again)
				b.StartTimer()
			}
		})
	}
}

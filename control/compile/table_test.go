package compile

import (
	"maps"
	"testing"
)

// TestTable holds forks to plain maps, which are copied in full.
func TestTable(t *testing.T) {
	d := newDice(3)
	type pair struct {
		table *table[int, int]
		twin  map[int]int
	}
	pairs := []pair{{&table[int, int]{}, map[int]int{}}}
	for range 200 {
		from := pairs[d.IntN(len(pairs))]
		p := pair{from.table.fork(), maps.Clone(from.twin)}
		for range d.IntN(400) {
			k, v := d.IntN(2000), d.Int()
			if d.chance(60) {
				p.table.put(k, v)
				p.twin[k] = v
			} else {
				p.table.delete(k)
				delete(p.twin, k)
			}
		}
		pairs = append(pairs, p)
	}
	for _, p := range pairs {
		if !maps.Equal(maps.Collect(p.table.all()), p.twin) || p.table.len != len(p.twin) {
			t.Fatalf("a table of %d is not its twin of %d", p.table.len, len(p.twin))
		}
		for k := range 2000 {
			v, ok := p.table.get(k)
			if want, is := p.twin[k]; v != want || ok != is || p.table.has(k) != is || p.table.at(k) != want {
				t.Fatalf("%d is %d, %v; want %d, %v", k, v, ok, want, is)
			}
		}
	}
}

package reassembly

import "ringway/internal/chain"

// source is what the addresses of one hash have in the table together. Which
// addresses share a hash nobody can know who does not know the seed.
type source struct {
	datagrams int        // that are not done
	packets   int        // that wait
	list      chain.List // the datagrams, the least recently seen first
}

// admits reports whether a source may have one more datagram. One that has all
// that it may have gives up those of its own that have come to a halt: the source
// has begun as many newer ones, so that their other fragments are lost, as Linux
// has it, too (ipfrag_max_dist in Documentation/networking/ip-sysctl.rst). Without
// that a sender of whose fragments a few are lost would come to a halt itself.
func (t *Table) admits(s *source, f piece) bool {
	for s.datagrams >= t.options.PerSource || f.start != 0 && s.packets >= t.options.PerSource {
		if !t.giveWay(s) {
			return false
		}
	}
	return t.queues[free].Len > 0
}

func (t *Table) joinSource(d *Datagram) {
	s := &t.sources[d.source]
	s.datagrams++
	t.siblings.Push(&s.list, d.index)
}

func (t *Table) leaveSource(d *Datagram) {
	s := &t.sources[d.source]
	s.datagrams--
	t.siblings.Remove(&s.list, d.index)
}

// touch says that a fragment of a datagram came.
func (t *Table) touch(d *Datagram, now int64) {
	d.seen = now
	s := &t.sources[d.source]
	if s.list.Last != d.index {
		t.siblings.Remove(&s.list, d.index)
		t.siblings.Push(&s.list, d.index)
	}
}

package reassembly

import (
	"encoding/binary"
	"slices"

	"ringway/packet"
)

// twin is a table that is slow and obvious: it keeps all datagrams in one slice,
// and looks at all of it for everything.
type twin struct {
	o      Options
	all    []*twinDatagram
	out    []twinPacket
	ticked int64
	steps  int // counts what happens, so that earlier is less
}

type twinDatagram struct {
	key     key
	source  uint32
	state   state
	entered int   // step at which it came to its state
	touched int   // step at which its latest fragment came
	seen    int64 // time of that
	until   int64
	refused bool
	first   packet.Packet
	user    uint64
	pieces  []twinPiece
	early   []twinPacket
}

// twinPiece is in bytes.
type twinPiece struct {
	start, end int
	last       bool
}

type twinPacket struct {
	addr   uint64
	bytes  int
	of     *twinDatagram // nil: it is dropped
	reason packet.Reason
}

func (w *twin) step() int { w.steps++; return w.steps }

// count gives how many datagrams there are that are so.
func (w *twin) count(is func(*twinDatagram) bool) (n int) {
	for _, d := range w.all {
		if is(d) {
			n++
		}
	}
	return n
}

// least gives the datagram that is so and has the least of something, or nil.
func (w *twin) least(is func(*twinDatagram) bool, of func(*twinDatagram) int) (least *twinDatagram) {
	for _, d := range w.all {
		if is(d) && (least == nil || of(d) < of(least)) {
			least = d
		}
	}
	return least
}

func (w *twin) waits(source int) (packets, bytes int) {
	for _, d := range w.all {
		if source < 0 || d.source == uint32(source) {
			packets += len(d.early)
			for _, p := range d.early {
				bytes += p.bytes
			}
		}
	}
	return packets, bytes
}

func (w *twin) held() int {
	n, _ := w.waits(-1)
	return n + len(w.out)
}

func (w *twin) room(source uint32, p *packet.Packet) bool {
	n, bytes := w.waits(-1)
	for _, o := range w.out {
		bytes += o.bytes
	}
	mine, _ := w.waits(int(source))
	return mine < w.o.PerSource && n+len(w.out) < w.o.Held && bytes+len(p.Buf) <= w.o.HeldBytes
}

// leaves reports whether packets of a datagram are to be taken.
func (w *twin) leaves(d *twinDatagram) bool {
	return slices.ContainsFunc(w.out, func(p twinPacket) bool { return p.of == d })
}

func (w *twin) discard(d *twinDatagram, r packet.Reason) {
	for _, p := range d.early {
		p.of, p.reason = nil, r
		w.out = append(w.out, p)
	}
	d.early = nil
}

func (w *twin) end(d *twinDatagram, r packet.Reason) {
	w.discard(d, r)
	w.all = slices.DeleteFunc(w.all, func(x *twinDatagram) bool { return x == d })
}

func (w *twin) enter(d *twinDatagram, s state, now int64) {
	life := map[state]int64{waiting: int64(w.o.Hold), open: int64(w.o.Timeout), done: int64(moment)}
	d.state, d.entered, d.until = s, w.step(), now+life[s]
}

func entered(d *twinDatagram) int { return d.entered }
func touched(d *twinDatagram) int { return d.touched }

func (w *twin) tick(now int64) {
	w.ticked = now
	for _, s := range []state{waiting, open, done} {
		for {
			d := w.least(func(d *twinDatagram) bool { return d.state == s }, entered)
			if d == nil || d.until > now || w.leaves(d) {
				break
			}
			w.end(d, packet.FragmentTimeout)
		}
	}
	for {
		n, bytes := w.waits(-1)
		if n <= w.o.Held-w.o.Held/4 && bytes <= w.o.HeldBytes-w.o.HeldBytes/4 {
			break
		}
		w.end(w.least(func(d *twinDatagram) bool { return d.state == waiting }, entered), packet.FragmentsFull)
	}
	for w.o.Datagrams-len(w.all) < w.o.Datagrams/4 {
		d := w.least(func(d *twinDatagram) bool { return d.state == done }, entered)
		if d == nil || w.leaves(d) {
			break
		}
		w.end(d, packet.NoReason)
	}
}

// admits lets datagrams of a source that have come to a halt give way.
func (w *twin) admits(source uint32, first bool) bool {
	mine := func(d *twinDatagram) bool { return d.source == source && d.state != done }
	for {
		waits, _ := w.waits(int(source))
		if w.count(mine) < w.o.PerSource && (first || waits < w.o.PerSource) {
			return len(w.all) < w.o.Datagrams
		}
		d := w.least(mine, touched)
		if d == nil || w.leaves(d) || d.seen+int64(moment) > w.ticked {
			return false
		}
		w.end(d, packet.FragmentsFull)
	}
}

// agree reports whether pieces can all be of one datagram: no byte is in two of
// them, and nothing is behind the last.
func agree(all []twinPiece) bool {
	bytes := map[int]bool{}
	end, ends := 0, 0
	for _, f := range all {
		for b := f.start; b < f.end; b++ {
			if bytes[b] {
				return false
			}
			bytes[b] = true
		}
		if f.last {
			end, ends = f.end, ends+1
		}
	}
	for _, f := range all {
		if ends > 1 || ends == 1 && f.end > end {
			return false
		}
	}
	return true
}

// whole reports whether all bytes up to the end are there.
func (d *twinDatagram) whole() bool {
	sum, end := 0, -1
	for _, f := range d.pieces {
		sum += f.end - f.start
		if f.last {
			end = f.end
		}
	}
	return sum == end
}

func (w *twin) fragment(p *packet.Packet, source uint32, now int64) (Action, packet.Reason, *twinDatagram) {
	h := p.Buf[p.L3:p.End]
	word := binary.BigEndian.Uint16(h[6:])
	f := twinPiece{start: int(word%0x2000) * 8, last: word&0x2000 == 0}
	f.end = f.start + len(h) - int(h[0]%16)*4
	if f.end == f.start || !f.last && f.end%8 != 0 {
		return Drop, packet.BadIPHeader, nil
	}
	k := key{p.Src, p.Dst, binary.BigEndian.Uint16(h[4:]), p.Proto, p.Flags&packet.Decapped != 0}
	d := w.least(func(d *twinDatagram) bool { return d.key == k }, entered)
	if p.Proto == packet.ProtoTCP && (f.start == 8 || f.start == 16) {
		w.refuse(d, now)
		return Drop, packet.FragmentOverlap, nil
	}
	if d == nil {
		if !w.admits(source, f.start == 0) || f.start != 0 && !w.room(source, p) {
			return Drop, packet.FragmentsFull, nil
		}
		d = &twinDatagram{key: k, source: source, touched: w.step()}
		w.enter(d, waiting, now)
		w.all = append(w.all, d)
	}
	switch {
	case d.refused:
		return Drop, packet.FragmentOverlap, nil
	case slices.Contains(d.pieces, f):
		return Drop, packet.FragmentDuplicate, nil
	case !agree(append(slices.Clone(d.pieces), f)):
		w.refuse(d, now)
		return Drop, packet.FragmentOverlap, nil
	case len(d.pieces) == maxPieces:
		return Drop, packet.FragmentsFull, nil
	case d.state == waiting && f.start != 0 && !w.room(source, p):
		return Drop, packet.FragmentsFull, nil
	}
	d.pieces = append(d.pieces, f)
	d.seen, d.touched = now, w.step()
	if d.state == waiting && f.start != 0 {
		d.early = append(d.early, twinPacket{addr: p.Addr, bytes: len(p.Buf), of: d})
		return Held, packet.NoReason, nil
	}
	if f.start == 0 {
		d.first = *p
		w.out = append(w.out, d.early...)
		d.early = nil
		w.enter(d, open, now)
	}
	if d.whole() {
		w.enter(d, done, now)
	}
	return Pass, packet.NoReason, d
}

func (w *twin) refuse(d *twinDatagram, now int64) {
	if d == nil {
		return
	}
	d.refused = true
	if d.state == waiting {
		w.discard(d, packet.FragmentOverlap)
		w.enter(d, open, now)
	}
}

// take gives what comes out next.
func (w *twin) take() twinPacket {
	p := w.out[0]
	w.out = w.out[1:]
	if p.of != nil && p.of.refused {
		p.of, p.reason = nil, packet.FragmentOverlap
	} else if p.of != nil {
		p.of.seen = w.ticked
	}
	return p
}

func (w *twin) nextDeadline(now int64) (int64, bool) {
	if len(w.out) > 0 {
		return now, true
	}
	d := w.least(func(*twinDatagram) bool { return true }, func(d *twinDatagram) int { return int(d.until) })
	if d == nil {
		return now, false
	}
	return max(now, d.until), true
}

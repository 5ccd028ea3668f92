package conntrack

import "ringway/packet"

// The states of a TCP connection as its packets tell them. SYN is one without
// ACK; s is the side that sent the first SYN, or FIN, and o the other.
//
//	                     NEW
//	        s: SYN        │        anything else
//	   ┌──────────────────┴──────────────────────┐
//	   ▼                                         ▼
//	SYN_SENT ── o: SYN ──► SYN_SENT2         MID_STREAM
//	   │                       │                 │
//	   │ o: SYN+ACK            │ SYN+ACK         │ the other side, too
//	   ▼                       │                 │
//	SYN_RECV ◄─────────────────┘                 │
//	   │ both SYNs are acknowledged              │
//	   ▼                                         │
//	ESTABLISHED ◄────────────────────────────────┘
//	   │ s: FIN                       ▲
//	   ▼                              │ data
//	FIN_WAIT ─────────────┐           │
//	   │ o: ACK of it     │         RESET ◄── acceptable RST, in any state
//	   ▼                  │ o: FIN    │
//	CLOSE_WAIT            │           │ SYN ──► SYN_SENT, Reopened
//	   │ o: FIN           │
//	   ▼                  │
//	TIME_WAIT ◄───────────┘  Closed
//	   │
//	   │ SYN ──► SYN_SENT, Reopened
//
// The names are netfilter's. TIME_WAIT begins with the second FIN and not with
// its acknowledgment: from then on the sides may use their ports again
// (RFC 7857 2.1), so that LAST_ACK and CLOSING would say no more.
//
// Nothing here refuses a packet. What does not fit, be it an old duplicate or
// forged, changes neither state nor deadline:
//
//   - A RST ends nothing at once. It is acceptable where the receiver expects the
//     next byte or in its window (RFC 5961 3.2, RFC 9293 3.10.7.4), or if it
//     acknowledges the SYN (RFC 9293 3.10.7.3), and then the flow has as long as
//     an opening one has (RFC 7857 2.2). Data brings it back.
//   - A SYN on a live connection may come from a side that has forgotten it. The
//     other side answers with a challenge ACK, and the first then with a RST
//     (RFC 5961 4.2), which pass. Only if the other side accepts the SYN, with a
//     SYN+ACK that acknowledges it, is this a new connection.
//   - Where the SYNs were not seen the window scale is not known; the largest
//     possible is assumed.
//   - A flow whose source is translated is not kept alive or brought back from
//     outside once it is closed.

// tcpBits of a flow. Those that belong to a direction come in pairs.
type tcpBits uint8

const (
	// acked: the direction has acknowledged the other's SYN, or in mid-stream
	// was seen at all.
	acked tcpBits = 1 << (2 * iota)
	// finished: its FIN was seen.
	finished
	// awaiting: Flow.awaited is the acknowledgment by which the direction would
	// accept the other's SYN or FIN.
	awaiting
	// liberal: picked up in mid-stream.
	liberal
)

func (b tcpBits) of(d Dir) tcpBits { return b << (d & 1) }

func (b tcpBits) both() tcpBits { return b | b<<1 }

func (f *Flow) has(b tcpBits) bool { return f.tcp&b != 0 }

// await an acknowledgment of a direction. There is room for one.
func (f *Flow) await(d Dir, ack uint32) {
	f.tcp = f.tcp&^awaiting.both() | awaiting.of(d)
	f.awaited = ack
}

// scales are the window scales of both directions, four bits each.
type scales uint8

const (
	scaleUnknown  = 15 // or not offered
	scaleMost     = 14 // RFC 7323 2.3
	scalesUnknown = scales(scaleUnknown<<4 | scaleUnknown)
)

func (s scales) of(d Dir) uint8 { return uint8(s>>(4*(d&1))) & 15 }

func (s scales) with(d Dir, v uint8) scales {
	shift := 4 * (d & 1)
	return s&^(15<<shift) | scales(v&15)<<shift
}

// segment is what of a TCP segment matters here.
type segment struct {
	dir      Dir
	flags    uint8
	seq, ack uint32
	end      uint32 // one past the last byte of data; a FIN stands there
	window   uint16
	header   packet.TCP
}

const tcpOpening = packet.TCPSyn | packet.TCPFin | packet.TCPRst

// updateTCP is called for each packet of a TCP flow. Most are acknowledgments on
// an established connection, which need the hot line only.
func (t *Table) updateTCP(r Ref, f *Flow, p *packet.Packet, now int64) Event {
	h := tcpHeader(p)
	if h == nil {
		return 0
	}
	flags, d := h.Flags(), r.Dir()
	if f.head.state() == StateEstablished && flags&(tcpOpening|packet.TCPAck) == packet.TCPAck {
		f.note(d, h.Ack(), h.Window())
		f.deadline = instantIn(now, t.expiry.of(f))
		return 0
	}
	s := segment{dir: d, flags: flags, seq: h.Seq(), ack: h.Ack(), window: h.Window(), header: h}
	s.end = s.seq + uint32(max(len(h)-h.DataOffset(), 0))
	return t.updateSegment(uint32(r.ID()), f, &s, now)
}

// tcpHeader is nil for fragments that have none.
func tcpHeader(p *packet.Packet) packet.TCP {
	if p.L4 == 0 || p.End < p.L4+packet.TCPMinLen {
		return nil
	}
	return packet.TCP(p.Buf[p.L4:p.End])
}

// note what a direction acknowledges and offers.
func (f *Flow) note(d Dir, ack uint32, window uint16) {
	d &= 1
	f.ack[d] = ack
	if window > f.window[d] {
		f.window[d] = window
	}
}

func (t *Table) updateSegment(id uint32, f *Flow, s *segment, now int64) Event {
	switch {
	case s.flags&packet.TCPRst != 0:
		t.onRST(id, f, s, now)
		return 0
	case s.flags&(packet.TCPSyn|packet.TCPFin) == packet.TCPSyn|packet.TCPFin:
		return 0
	case s.flags&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn:
		return t.onSYN(id, f, s, now)
	case s.flags&packet.TCPSyn != 0:
		return t.onSYNACK(id, f, s, now)
	case s.flags&packet.TCPAck != 0:
		return t.onACK(id, f, s, now)
	}
	return 0
}

// enter a state, with the deadline that belongs to it.
func (t *Table) enter(id uint32, f *Flow, state State, now int64) {
	t.setHead(id, f.head.withState(state))
	t.setDeadline(id, instantIn(now, t.expiry.of(f)))
}

// linger keeps a closed flow. The list of these is in the order of their
// deadlines.
func (t *Table) linger(id uint32, f *Flow, now int64) {
	t.closed.remove(id)
	t.closed.push(id)
	t.enter(id, f, StateTimeWait, now)
}

// outside says that the segment comes from where a translated flow leads: the
// side that cannot be trusted to keep a mapping.
func (f *Flow) outside(d Dir) bool { return d == Reply && f.head.has(statusSourceTranslated) }

func (t *Table) onSYN(id uint32, f *Flow, s *segment, now int64) Event {
	other := s.dir ^ 1
	switch f.head.state() {
	case StateNew, StateMidStream:
		t.open(id, f, s, now)
	case StateTimeWait, StateReset:
		if f.outside(s.dir) {
			return 0
		}
		t.forget(id, f)
		t.open(id, f, s, now)
		return Reopened | reversed(s)
	case StateSynSent:
		if f.has(awaiting.of(other)) {
			t.open(id, f, s, now)
			break
		}
		f.offer(s)
		t.enter(id, f, StateSynSent2, now)
	case StateSynSent2:
		f.offer(s)
		t.enter(id, f, StateSynSent2, now)
	case StateSynRecv:
		if f.ack[other] == s.seq+1 {
			t.enter(id, f, StateSynRecv, now)
			break
		}
		f.await(other, s.seq+1)
	default:
		f.await(other, s.seq+1)
		return reversed(s)
	}
	return 0
}

// reversed tells whether a SYN comes from the side that answers.
func reversed(s *segment) Event {
	if s.dir == Reply {
		return Reversed
	}
	return 0
}

// open begins a connection with a SYN.
func (t *Table) open(id uint32, f *Flow, s *segment, now int64) {
	f.tcp, f.ack, f.window, f.scales = 0, [2]uint32{}, [2]uint16{}, scalesUnknown
	f.offer(s)
	f.await(s.dir^1, s.seq+1)
	t.enter(id, f, StateSynSent, now)
}

// forget that the flow was assured: it starts over.
func (t *Table) forget(id uint32, f *Flow) {
	h := f.head.without(statusAssured)
	if t.pressed() {
		h = h.with(statusPressure)
	}
	t.setHead(id, h)
}

// offer notes what a SYN says: what the other side has to acknowledge at least,
// and the window.
func (f *Flow) offer(s *segment) {
	d := s.dir & 1
	f.ack[d^1] = s.seq + 1
	f.window[d] = s.window
	f.scales = f.scales.with(d, windowScale(s.header))
}

// synSlack is how far an acknowledgment in the handshake may be ahead of the
// SYN: data may follow it at once (RFC 7413).
const synSlack = 1 << 20

// acknowledges says that the segment acknowledges the other side's SYN.
func (f *Flow) acknowledges(s *segment) bool { return s.ack-f.ack[s.dir&1] < synSlack }

func (t *Table) onSYNACK(id uint32, f *Flow, s *segment, now int64) Event {
	switch f.head.state() {
	case StateNew, StateMidStream:
		return t.pickUp(id, f, s, now)
	case StateSynSent:
		if !f.has(awaiting.of(s.dir)) || !f.acknowledges(s) {
			return 0
		}
		f.offer(s)
		f.settleScales()
		return t.handshake(id, f, s, now)
	case StateSynSent2, StateSynRecv:
		if f.acknowledges(s) {
			f.settleScales()
			return t.handshake(id, f, s, now)
		}
	}
	if !f.has(awaiting.of(s.dir)) || s.ack != f.awaited {
		return 0
	}
	// The other side has accepted the SYN, whose own window scale is forgotten.
	t.forget(id, f)
	f.tcp, f.window, f.scales = liberal, [2]uint16{}, scalesUnknown
	f.offer(s)
	return t.handshake(id, f, s, now) | Reopened
}

// handshake notes that a side has acknowledged the other's SYN.
func (t *Table) handshake(id uint32, f *Flow, s *segment, now int64) Event {
	f.tcp = f.tcp&^awaiting.both() | acked.of(s.dir)
	f.note(s.dir, s.ack, 0)
	if f.tcp&acked.both() != acked.both() {
		t.enter(id, f, StateSynRecv, now)
		return 0
	}
	return t.establish(id, f, now)
}

// establish a connection that both sides have agreed to.
func (t *Table) establish(id uint32, f *Flow, now int64) Event {
	t.setHead(id, f.head.with(statusAssured).without(statusPressure))
	t.enter(id, f, f.openState(), now)
	return Assured
}

// openState is the state that the FINs seen make.
func (f *Flow) openState() State {
	switch f.tcp & finished.both() {
	case 0:
		return StateEstablished
	case finished.both():
		return StateTimeWait
	}
	return StateFinWait
}

// pickUp is for segments of a connection whose SYNs were not seen.
func (t *Table) pickUp(id uint32, f *Flow, s *segment, now int64) Event {
	f.tcp |= liberal | acked.of(s.dir)
	f.note(s.dir, s.ack, s.window)
	if f.tcp&acked.both() == acked.both() {
		return t.establish(id, f, now)
	}
	t.enter(id, f, StateMidStream, now)
	return 0
}

// onACK is for everything with ACK and without SYN and RST: data,
// acknowledgments, FINs.
func (t *Table) onACK(id uint32, f *Flow, s *segment, now int64) Event {
	var event Event
	switch f.head.state() {
	case StateSynSent:
		// From the other side: a challenge ACK. From the same: the answer takes
		// another way.
		if f.has(awaiting.of(s.dir ^ 1)) {
			t.enter(id, f, StateSynSent, now)
		}
		return 0
	case StateSynSent2, StateSynRecv:
		if !f.acknowledges(s) {
			return 0
		}
		event = t.handshake(id, f, s, now)
	case StateNew, StateMidStream:
		event = t.pickUp(id, f, s, now)
	case StateTimeWait:
		if !f.outside(s.dir) {
			t.linger(id, f, now)
		}
		return 0
	case StateReset:
		if f.outside(s.dir) || !f.Assured() {
			return 0
		}
		t.enter(id, f, f.openState(), now)
	}
	acceptable := f.accepts(s.dir, s.end)
	f.note(s.dir, s.ack, s.window)
	if s.flags&packet.TCPFin != 0 && acceptable {
		return event | t.onFIN(id, f, s, now)
	}
	state := f.head.state()
	if state == StateFinWait && f.has(awaiting.of(s.dir)) && s.ack == f.awaited {
		state = StateCloseWait
	}
	t.enter(id, f, state, now)
	return event
}

// onFIN is called for a FIN that the other side will accept.
func (t *Table) onFIN(id uint32, f *Flow, s *segment, now int64) Event {
	first := !f.has(finished.both())
	f.tcp |= finished.of(s.dir)
	if first {
		f.await(s.dir^1, s.end+1)
	}
	if !f.Assured() {
		t.enter(id, f, f.head.state(), now)
		return 0
	}
	state := f.openState()
	if state == StateFinWait && f.head.state() == StateCloseWait {
		state = StateCloseWait
	}
	t.enter(id, f, state, now)
	if state == StateTimeWait {
		return Closed
	}
	return 0
}

// onRST shortens what is left of a flow if the other side will accept the RST.
func (t *Table) onRST(id uint32, f *Flow, s *segment, now int64) {
	if f.head.state().closed() || !f.acceptsRST(s) {
		return
	}
	deadline := f.deadline
	t.setHead(id, f.head.withState(StateReset))
	if transitory := instantIn(now, t.expiry.of(f)); transitory.until(deadline) > 0 {
		deadline = transitory
	}
	t.setDeadline(id, deadline)
}

func (f *Flow) acceptsRST(s *segment) bool {
	state := f.head.state()
	// What answers a SYN is told by its acknowledgment: it has no sequence
	// number of its own (RFC 9293 3.10.7.1).
	asked := state == StateSynSent2 || state == StateSynSent && f.has(awaiting.of(s.dir))
	if asked && s.flags&packet.TCPAck != 0 && f.acknowledges(s) {
		return true
	}
	if state == StateSynSent && asked {
		return false
	}
	return f.accepts(s.dir, s.seq)
}

// accepts says that a sequence number sent in a direction lies where the other
// side expects the next byte, or in its window (RFC 9293 3.4).
func (f *Flow) accepts(d Dir, seq uint32) bool {
	to := (d ^ 1) & 1
	if f.has(liberal) && !f.has(acked.of(to)) {
		return true
	}
	return seq-f.ack[to] <= uint32(f.window[to])<<f.shift(to)
}

// shift is the window scale in force for what a direction offers.
func (f *Flow) shift(d Dir) uint8 {
	if f.has(liberal) {
		return scaleMost
	}
	if v := f.scales.of(d); v != scaleUnknown {
		return v
	}
	return 0
}

// settleScales is called when both SYNs are seen: windows are scaled only if
// both offer it, and that of a SYN never is (RFC 7323 2.2).
func (f *Flow) settleScales() {
	if f.has(acked.both()) {
		return
	}
	a, b := f.scales.of(Original), f.scales.of(Reply)
	if a == scaleUnknown || b == scaleUnknown {
		f.scales = 0
		return
	}
	f.window[Original] = uint16((uint32(f.window[Original]) + 1<<a - 1) >> a)
	f.window[Reply] = uint16((uint32(f.window[Reply]) + 1<<b - 1) >> b)
}

// TCP option kinds (RFC 9293 3.2, RFC 7323 2.2).
const (
	optionEnd         = 0
	optionNop         = 1
	optionWindowScale = 3
)

// windowScale of a SYN, 0 to 14; scaleUnknown: it offers none.
func windowScale(h packet.TCP) uint8 {
	end := min(h.DataOffset(), len(h))
	for at := packet.TCPMinLen; at < end; {
		if h[at] == optionEnd {
			break
		}
		if h[at] == optionNop {
			at++
			continue
		}
		if at+1 >= end || h[at+1] < 2 || at+int(h[at+1]) > end {
			break
		}
		if h[at] == optionWindowScale && h[at+1] == 3 {
			return min(h[at+2], scaleMost)
		}
		at += int(h[at+1])
	}
	return scaleUnknown
}

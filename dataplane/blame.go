package dataplane

import (
	"fmt"
	"runtime/debug"

	"ringway/packet"
)

// poison is the packet that made a stage panic, kept for the bug report.
type poison struct {
	Panic string
	Stack string
	Frame []byte
	Port  uint16
	Slot  uint32
}

// blame ends the packet in hand after a panic. The others of the batch go on.
func (w *Worker) blame(r any) {
	w.count.Panics++
	b := w.current
	if b == nil || w.cur >= b.N || b.Pkts[w.cur].Done {
		w.dropAll(packet.Panic) // not a packet's fault: end the batch, so that it cannot happen for ever
		return
	}
	p := &b.Pkts[w.cur]
	w.poison = poison{
		Panic: fmt.Sprint(r), Stack: string(debug.Stack()), Port: p.Port, Slot: p.Slot,
		Frame: append([]byte(nil), p.Buf[min(p.Off, p.End):p.End]...),
	}
	w.core.log.Error("a packet made the pipeline panic and was dropped", "worker", w.id, "panic", w.poison.Panic, "frame", fmt.Sprintf("%x", w.poison.Frame))
	p.Drop(packet.Panic)
}

func (w *Worker) dropAll(r packet.Reason) {
	for _, b := range []*packet.Batch{&w.batch, &w.extra} {
		for i := range b.N {
			b.Pkts[i].Drop(r)
		}
	}
}

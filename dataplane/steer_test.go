package dataplane

import "testing"

// TestTrunkOfAnotherWorker: after a start with another number of workers a pod's
// packets may wait in the ring of the trunk that was its own before. Their flow is
// one with that of those to come.
func TestTrunkOfAnotherWorker(t *testing.T) {
	w := newWorld(t, testConfig{workers: 2, queues: 2}, 50000, 50999)
	first := one(t, w.out(1, udp4(pod1, ext, 4000, 7000)...))
	w.trunks[0].Inject(w.frameOf(1, udp4(pod1, ext, 4000, 7000)...))
	w.settle()
	if again := one(t, w.sentBy(w.uplinks...)); again.Tuple() != first.Tuple() {
		t.Errorf("left as %s and as %s", text(first.Tuple()), text(again.Tuple()))
	}
	w.trunks[0].Inject(w.frameOf(1, udp4(pod1, ext2, 4001, 7000)...))
	w.settle()
	sent := one(t, w.sentBy(w.uplinks...))
	back := one(t, w.in(0, udp4(ext2, vtep1, 7000, sent.SrcPort)...))
	if back.Dst != pod1 || back.DstPort != 4001 {
		t.Errorf("came back as %s", text(back.Tuple()))
	}
	for _, worker := range w.core.workers {
		if n := worker.flows.Len(); n != int(worker.id)*2 {
			t.Errorf("worker %d has %d flows", worker.id, n)
		}
	}
	w.check()
}

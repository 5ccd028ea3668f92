package lab

import (
	"testing"
	"time"
)

// TestPathMTUThroughSNAT: what a router says of a packet that node1 has sent in
// its own name reaches the pod that it is about, exact and about the pod's own
// address; and a pod behind another node has that node's address.
func TestPathMTUThroughSNAT(t *testing.T) {
	const narrow = 1300
	l := agentLab(t, Options{})
	must(t, l.SetMTU("router", "eth2", narrow))
	must(t, l.SetMTU("ext", "eth0", narrow))
	p, err := l.NewPinger("pod1")
	must(t, err)
	defer p.Close()
	a, err := firstAnswer(p, Probe{To: l.Address("ext"), Size: narrow + 1, DF: true, Timeout: 500 * time.Millisecond}, 3)
	if err != nil || !a.FragNeeded() || a.MTU != narrow || a.From.String() != "192.168.0.1" {
		t.Errorf("%d bytes: %v %v, want mtu %d from the router", narrow+1, a, err, narrow)
	}
	if quoted := a.Quoted; len(quoted) < ipv4HeaderLen || [4]byte(quoted[12:16]) != l.Address("pod1").As4() {
		t.Errorf("the router quotes %x, want a packet of pod1", quoted)
	}
	if a, err := p.Send(Probe{To: l.Address("ext"), Size: narrow, DF: true}); err != nil || !a.Echo() {
		t.Errorf("%d bytes: %v %v", narrow, a, err)
	}
	for pod, node := range map[string]string{"pod1": "node1", "pod4": "node4"} {
		r, err := l.TransferTCP(testContext(t, 20*time.Second), pod, "ext", l.Address("ext"), 4<<20)
		if err != nil {
			t.Error(err)
		} else if r.Seen != l.Address(node) {
			t.Errorf("ext saw %s as %s", pod, r.Seen)
		}
		// What may be fragmented the router cuts on its way, fragments too.
		for _, size := range []int{1400, 3000} {
			if _, err := l.Ping(pod, Probe{To: l.Address("ext"), Size: size}); err != nil {
				t.Error(err)
			}
		}
		if err := l.EchoUDP(testContext(t, 10*time.Second), pod, "ext", l.Address("ext"), []int{100, 3000, 8000}); err != nil {
			t.Error(err)
		}
	}
	checkHealthy(t, l)
}

package dataplane

import (
	"sync"
	"testing"
	"time"

	"net/netip"

	"ringway/dataplane/kroute"
	pt "ringway/packet/packettest"
)

// A table of a million routes comes, is changed as a whole and goes again while
// packets are forwarded: none is lost, and each goes the way that one of the
// tables says.
func TestMillionRoutesSwappedUnderTraffic(t *testing.T) {
	routes := 1_000_000
	if raceEnabled || testing.Short() {
		routes = 20_000
	}
	n := newTestNode(t, testConfig{frames: 4096})
	table := func(gateway string) []kroute.Route {
		out := make([]kroute.Route, routes)
		for i := range out {
			a := addrOf(uint32(20)<<24 + uint32(i)<<4)
			out[i] = kroute.Route{Prefix: netip.PrefixFrom(a, 28), Ifindex: uplinkIfindex, Gateway: netip.MustParseAddr(gateway)}
		}
		return out
	}
	one, other := table("192.168.0.101"), table("192.168.0.102")
	prefixes := make([]netip.Prefix, routes)
	for i := range prefixes {
		prefixes[i] = one[i].Prefix
	}
	n.start()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for _, change := range []func(){
			func() { n.build.setKernelRoutes(one, nil) },
			func() { n.build.setKernelRoutes(other, nil) },
			func() { n.build.setKernelRoutes(nil, prefixes) },
		} {
			began := time.Now()
			change()
			n.publish()
			t.Logf("%d routes in the FIB after %v", n.core.snapshot.Load().Routes.Len(), time.Since(began).Round(time.Millisecond))
		}
	})
	sent, seen := 0, 0
	via := map[string]int{}
	look := func() {
		for _, frame := range n.uplinks[0].Sent() {
			seen++
			via[string(frame[:6])]++
		}
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for i := range 32 {
			n.fromSlot(1, udp(pod1, pt.Addr("20.0.0.0")+uint32(i*routes/32)<<4+5, 20)...)
			sent++
		}
		for deadline := time.Now().Add(5 * time.Second); seen < sent && time.Now().Before(deadline); {
			time.Sleep(50 * time.Microsecond)
			look()
		}
	}
	wg.Wait()
	if seen != sent {
		t.Errorf("%d of %d packets were forwarded", seen, sent)
	}
	if len(via) != 3 || via[string(node2MAC[:])] == 0 || via[string(node3MAC[:])] == 0 || via[string(routerMAC[:])] == 0 {
		t.Errorf("next hops seen: %v", via)
	}
}

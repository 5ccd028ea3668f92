package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"ringway/control"
	"ringway/control/ringwayv1"
)

// tables reads a host's table set as the API has it.
func tables(t *testing.T, l *Lab, host string) *ringwayv1.TableSet {
	t.Helper()
	doc, err := os.ReadFile(l.Tables(host))
	must(t, err)
	set, err := control.ParseTables(doc)
	must(t, err)
	return set
}

// A node that is not there, behind the router: what is sent to its pods is seen
// on the wire and answered by nobody. Its address and the outer checksum change
// together, so a packet tells which set made it.
const (
	phantomPod  = "10.201.0.5"
	phantomCIDR = "10.201.0.0/24"
)

var phantomAddress = [2]string{"192.168.1.200", "192.168.1.201"} // the second with outer checksums

// TestSwapsUnderTraffic applies 1000 table sets while traffic runs: none of it
// is lost, and no packet is made half by one set and half by another.
func TestSwapsUnderTraffic(t *testing.T) {
	const swaps = 1000
	for _, s := range []setup{{"one worker", Options{}, 0}, {"two workers, four queues", Options{Workers: 2, UplinkQueues: 4}, 0}} {
		t.Run(s.name, func(t *testing.T) {
			l := fileLab(t, s.options)
			base := tables(t, l, "node1")
			wire, err := l.Capture("lan", "node1")
			must(t, err)
			there, err := l.StartFlow("pod1", "pod2", l.Address("pod2"), time.Millisecond)
			must(t, err)
			back, err := l.StartFlow("pod2", "pod1", l.Address("pod1"), time.Millisecond)
			must(t, err)
			stopPhantom := sendToPhantom(t, l)
			applySwaps(t, l, base, swaps)
			stopPhantom()
			for name, f := range map[string]*Flow{"pod1 to pod2": there, "pod2 to pod1": back} {
				r, err := f.Stop()
				must(t, err)
				t.Logf("%s: %+v", name, r)
				if r.Lost != 0 || r.Duplicates != 0 || r.Sent < 100 {
					t.Errorf("%s: %+v", name, r)
				}
			}
			packets, err := wire.Stop()
			must(t, err)
			checkWhole(t, packets)
		})
	}
}

func applySwaps(t *testing.T, l *Lab, base *ringwayv1.TableSet, swaps int) {
	t.Helper()
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	ctx := testContext(t, 60*time.Second)
	for i := range swaps {
		set := proto.CloneOf(base)
		set.Version += uint64(i + 1)
		set.Vxlan.UdpChecksum = i%2 == 1
		set.Nodes = append(set.Nodes, &ringwayv1.Node{Name: "phantom", Address: phantomAddress[i%2], NodeCidrs: []string{phantomCIDR}})
		version, err := client.Apply(ctx, set)
		must(t, err)
		if version != set.Version {
			t.Fatalf("version %d is in force after %d was applied", version, set.Version)
		}
	}
}

// sendToPhantom sends to the node that is not there until the returned function
// is called.
func sendToPhantom(t *testing.T, l *Lab) func() {
	t.Helper()
	conn, err := l.DialUDP("pod1", netip.AddrPortFrom(netip.MustParseAddr(phantomPod), 9).String())
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			// "Host unreachable" comes back, and shows as an error of the next write.
			_, _ = conn.Write([]byte("phantom"))
			time.Sleep(500 * time.Microsecond)
		}
	}()
	return func() {
		cancel()
		<-done
		conn.Close()
	}
}

// checkWhole: the outer UDP checksum is at 40, and present exactly if the packet
// went to the second address.
func checkWhole(t *testing.T, packets []WirePacket) {
	t.Helper()
	var seen [2]int
	for _, w := range packets {
		if w.Out || w.Inner == nil || w.Inner.Destination.String() != phantomPod {
			continue
		}
		which := 0
		if w.Outer.Destination.String() == phantomAddress[1] {
			which = 1
		}
		seen[which]++
		if checksum := binary.BigEndian.Uint16(w.Frame[40:]); (checksum != 0) != (which == 1) {
			t.Errorf("half a table: to %s with checksum %#x", w.Outer.Destination, checksum)
		}
	}
	if seen[0] == 0 || seen[1] == 0 {
		t.Errorf("packets by each set: %v, want some of both", seen)
	}
	t.Logf("packets by each set: %v", seen)
}

// badSets are sets that must be refused, with the field that the refusal names.
var badSets = []struct {
	name, field string
	spoil       func(*ringwayv1.TableSet)
}{
	{"no routing mode", "routing", func(s *ringwayv1.TableSet) { s.Routing = "" }},
	{"unknown routing mode", "routing", func(s *ringwayv1.TableSet) { s.Routing = "magic" }},
	{"VNI 0", "vxlan.vni", func(s *ringwayv1.TableSet) { s.Vxlan.Vni = proto.Uint32(0) }},
	{"VNI of 25 bits", "vxlan.vni", func(s *ringwayv1.TableSet) { s.Vxlan.Vni = proto.Uint32(1 << 24) }},
	{"port 0", "vxlan.port", func(s *ringwayv1.TableSet) { s.Vxlan.Port = proto.Uint32(0) }},
	{"port of 17 bits", "vxlan.port", func(s *ringwayv1.TableSet) { s.Vxlan.Port = proto.Uint32(1 << 16) }},
	{"no nodes", "nodes", func(s *ringwayv1.TableSet) { s.Nodes = nil }},
	{"this node is missing", "nodes", func(s *ringwayv1.TableSet) { s.Nodes = s.Nodes[1:] }},
	{"node without a name", "nodes[1].name", func(s *ringwayv1.TableSet) { s.Nodes[1].Name = "" }},
	{"name in upper case", "nodes[1].name", func(s *ringwayv1.TableSet) { s.Nodes[1].Name = "Node_2" }},
	{"name twice", "nodes[2].name", func(s *ringwayv1.TableSet) { s.Nodes[2].Name = s.Nodes[1].Name }},
	{"no address", "nodes[1].address", func(s *ringwayv1.TableSet) { s.Nodes[1].Address = "" }},
	{"address that is none", "nodes[1].address", func(s *ringwayv1.TableSet) { s.Nodes[1].Address = "192.168.0" }},
	{"IPv6 address", "nodes[1].address", func(s *ringwayv1.TableSet) { s.Nodes[1].Address = "2001:db8::1" }},
	{"multicast address", "nodes[1].address", func(s *ringwayv1.TableSet) { s.Nodes[1].Address = "224.0.0.5" }},
	{"loopback address", "nodes[1].address", func(s *ringwayv1.TableSet) { s.Nodes[1].Address = "127.0.0.1" }},
	{"address twice", "nodes[2].address", func(s *ringwayv1.TableSet) { s.Nodes[2].Address = s.Nodes[1].Address }},
	{"address inside a node CIDR", "nodes[1].address", func(s *ringwayv1.TableSet) { s.Nodes[1].Address = "10.200.3.9" }},
	{"this node without a CIDR", "nodes[0].nodeCidrs", func(s *ringwayv1.TableSet) { s.Nodes[0].NodeCidrs = nil }},
	{"CIDR that is none", "nodes[1].nodeCidrs[0]", func(s *ringwayv1.TableSet) { s.Nodes[1].NodeCidrs[0] = "10.200.1.0/33" }},
	{"CIDR with host bits", "nodes[1].nodeCidrs[0]", func(s *ringwayv1.TableSet) { s.Nodes[1].NodeCidrs[0] = "10.200.1.7/24" }},
	{"CIDR without room", "nodes[1].nodeCidrs[0]", func(s *ringwayv1.TableSet) { s.Nodes[1].NodeCidrs[0] = "10.200.1.0/31" }},
	{"CIDRs that overlap", "nodes[2].nodeCidrs[0]", func(s *ringwayv1.TableSet) { s.Nodes[2].NodeCidrs[0] = "10.200.0.0/22" }},
	{"MAC that is none", "nodes[1].vtepMac", func(s *ringwayv1.TableSet) { s.Nodes[1].VtepMac = "02:52" }},
	{"group MAC", "nodes[1].vtepMac", func(s *ringwayv1.TableSet) { s.Nodes[1].VtepMac = "01:00:5e:00:00:01" }},
	{"MAC twice", "nodes[2].vtepMac", func(s *ringwayv1.TableSet) { s.Nodes[2].VtepMac = s.Nodes[1].VtepMac }},
	{"older version", "version", func(s *ringwayv1.TableSet) { s.Version = 1 }},
}

// TestBadSetsAreRefused: whole, with the field named, and traffic does not
// notice.
func TestBadSetsAreRefused(t *testing.T) {
	l := fileLab(t, Options{})
	good := tables(t, l, "node1")
	good.Version = 10
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	ctx := testContext(t, 30*time.Second)
	_, err = client.Apply(ctx, good)
	must(t, err)
	before, err := client.Status(ctx)
	must(t, err)
	traffic, err := l.StartFlow("pod1", "pod2", l.Address("pod2"), time.Millisecond)
	must(t, err)
	for _, bad := range badSets {
		set := proto.CloneOf(good)
		set.Version = 11
		bad.spoil(set)
		_, err := client.Apply(ctx, set)
		var problems control.Problems
		if !errors.As(err, &problems) || problems[0].Field != bad.field || problems[0].Remedy == "" {
			t.Errorf("%s: %v, want a refusal of %s with a remedy", bad.name, err, bad.field)
		}
		s, err := client.Status(ctx)
		must(t, err)
		if s.GetTables().GetVersion() != 10 || s.GetGeneration() != before.GetGeneration() {
			t.Errorf("%s: version %d, generation %d; want 10, %d", bad.name, s.GetTables().GetVersion(), s.GetGeneration(), before.GetGeneration())
		}
		if s.GetHealthy() || !strings.Contains(s.GetTables().GetError(), bad.field) {
			t.Errorf("%s: status does not say so: healthy %t, error %q", bad.name, s.GetHealthy(), s.GetTables().GetError())
		}
	}
	good.Version = 12
	_, err = client.Apply(ctx, good)
	must(t, err)
	if s, err := client.Status(ctx); err != nil || !s.GetHealthy() {
		t.Errorf("not healthy after a good set: %v %v", s.GetReasons(), err)
	}
	r, err := traffic.Stop()
	must(t, err)
	if r.Lost != 0 || r.Duplicates != 0 || r.Sent < 10 {
		t.Errorf("traffic: %+v", r)
	}
}

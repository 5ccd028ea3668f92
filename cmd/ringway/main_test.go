package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ringway/control"
	"ringway/dataplane"
	"ringway/nat"
	"ringway/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s\nwant:\n%s", path, got, want)
	}
}

// node is an engine that shows one made-up node.
type node struct {
	mu      sync.Mutex
	reasons []string
	added   []dataplane.EndpointRequest
	deleted []string
	asked   dataplane.CaptureRequest
	packets []dataplane.CapturedPacket
	off     bool // no masquerading
	flushed []dataplane.FlowFilter
	listed  []dataplane.FlowFilter
	listErr error
}

var started = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (n *node) Apply(dataplane.Tables, string) error { return nil }
func (n *node) Refused(string, error)                {}

func (n *node) Status() dataplane.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := dataplane.Status{
		Node: "node1", Started: started, TablesVersion: 12, TablesApplied: started.Add(time.Minute), TablesSource: "file:/etc/ringway/tables.yaml",
		Routing: dataplane.RoutingHybrid, VXLAN: dataplane.VXLAN{VNI: 1, Port: 8472, StrictFlags: true},
		Generation: 4, Routes: 17, Endpoints: 2, MaxEndpoints: 256, MemoryBytes: 12_900_000, Reasons: n.reasons,
		Conntrack: dataplane.ConntrackStatus{
			Flows: 1234, MaxFlows: 1 << 20, MemoryBytes: 160 << 20, States: map[string]int{"UNREPLIED": 234, "ESTABLISHED": 1000},
			Created: 5000, Expired: 3700, Reaped: 66, Refused: 3, Quota: 2, Recovered: 900, Fragments: 1,
		},
		Workers: []dataplane.WorkerStatus{
			{ID: 0, Scheduler: "other", Idle: "adaptive", Batches: 30, Received: 1000, Originated: 3, Forwarded: 900, ToHost: 60, Dropped: 43, HandedOver: 5, Sleeps: 9, Frames: dataplane.FrameStatus{Total: 4096, Free: 1024, Fill: 3000, RX: 1, TX: 2, Completion: 3, Held: 66}},
			{ID: 1, CPUs: []int{2, 3}, Scheduler: "fifo", Idle: "busy", Frames: dataplane.FrameStatus{Total: 4096, Free: 4096}},
		},
		Ports: []dataplane.PortStatus{
			{Name: "eth0", Kind: "uplink", Device: "eth0", Ifindex: 2, Driver: "xsk", XDPMode: "native", ZeroCopy: true, State: "up", MTU: 1500, Counters: map[string]uint64{"tx": 7, "rx": 1000}},
			{Name: "eth0", Kind: "uplink", Device: "eth0", Ifindex: 2, Queue: 1, Worker: 1, Driver: "xsk", XDPMode: "native", ZeroCopy: true, State: "up", MTU: 1500},
			{Name: "trunk0", Kind: "trunk", Device: "rwt0", Ifindex: 9, Driver: "xsk", XDPMode: "native", State: "down", MTU: 1450},
		},
	}
	s.Masquerade = madeUpMasquerade
	s.Policy = dataplane.PolicyStatus{Mode: "enforce", Identities: 40, Addresses: 1000, Allowed: 4990, Denied: 12, Redecided: 77}
	if n.off {
		s.Masquerade = dataplane.MasqueradeStatus{Profile: "cilium", File: "/etc/config/ip-masq-agent"}
	}
	if len(n.reasons) > 0 {
		s.Policy.Mode, s.Policy.Denied, s.Policy.Audited = "audit", 0, 12
		s.Masquerade.FileError = "line 3: \"10.0.0.0/33\" is not a CIDR: write it as in 10.0.0.0/8"
		s.Conntrack.Recovered, s.Conntrack.ColdStart = 0, "the state file is of layout 1, this is 2"
		s.TablesError = "file:/etc/ringway/tables.yaml: routing: missing: write overlay, direct or hybrid\nnodes: the set is empty: list the cluster's nodes, \"node1\" among them"
	}
	return s
}

var madeUpMasquerade = dataplane.MasqueradeStatus{
	Enabled: true, Rules: 14, Profile: "cilium", File: "/etc/config/ip-masq-agent", StrictEIM: true,
	Addresses: []string{"192.168.0.100:49152-65535 (eth0)", "192.168.2.100:49152-65535 (eth1)"},
	Excluded: []string{
		"169.254.0.0/16 (default)",
		"10.200.0.0/24 (tables: nodes[].nodeCidrs)", "10.201.0.0/24 (tables: nodes[].nodeCidrs)", "10.200.3.0/24 (tables: nodes[].nodeCidrs)", "10.200.4.0/24 (tables: nodes[].nodeCidrs)",
		"172.16.0.0/12 (tables: masquerade.nonMasqueradeCIDRs)",
		"10.10.1.0/24 (/etc/config/ip-masq-agent: line 3)", "10.10.2.0/24 (/etc/config/ip-masq-agent: line 4)",
		"10.10.3.0/24 (/etc/config/ip-masq-agent: line 5)", "10.10.4.0/24 (/etc/config/ip-masq-agent: line 6)",
	},
}

func (n *node) Flows(_ context.Context, f dataplane.FlowFilter, yield func(dataplane.FlowStatus) bool) error {
	n.mu.Lock()
	n.listed = append(n.listed, f)
	err := n.listErr
	n.mu.Unlock()
	for _, f := range madeUpFlows() {
		if !yield(f) {
			return nil
		}
	}
	return err
}

func (n *node) FlushFlows(_ context.Context, f dataplane.FlowFilter) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flushed = append(n.flushed, f)
	return len(madeUpFlows()), nil
}

func madeUpFlows() []dataplane.FlowStatus {
	at := netip.MustParseAddrPort
	return []dataplane.FlowStatus{
		{
			Endpoint: "pod1", Protocol: "tcp", State: "ESTABLISHED", SNAT: true, Rule: "default", Verdict: "allow", PolicyRule: "default/web egress[0]", Expires: 7439*time.Second + 500*time.Millisecond, Age: 90 * time.Second,
			Original: dataplane.FlowTuple{Src: at("10.200.0.3:40000"), Dst: at("198.51.100.10:443")}, Reply: dataplane.FlowTuple{Src: at("198.51.100.10:443"), Dst: at("192.168.0.100:55555")},
			OriginalPackets: 10, OriginalBytes: 1200, ReplyPackets: 12, ReplyBytes: 123456,
		},
		{
			Worker: 1, Endpoint: "default/pod2", Protocol: "icmp", State: "UNREPLIED", SNAT: true, Rule: "default", Verdict: "deny", PolicyRule: "default", Expires: 200 * time.Millisecond, Age: time.Minute,
			Original: dataplane.FlowTuple{Src: at("10.200.0.4:7"), Dst: at("198.51.100.10:0")}, Reply: dataplane.FlowTuple{Src: at("198.51.100.10:0"), Dst: at("192.168.0.100:49152")},
			OriginalPackets: 1, OriginalBytes: 84,
		},
		{
			Protocol: "47", State: "REPLIED", Expires: time.Minute, Age: time.Hour, Rule: "node-cidrs",
			Original: dataplane.FlowTuple{Src: at("10.200.0.3:0"), Dst: at("10.200.3.6:0")}, Reply: dataplane.FlowTuple{Src: at("10.200.3.6:0"), Dst: at("10.200.0.3:0")},
			OriginalPackets: 1 << 40, OriginalBytes: 1 << 50, ReplyPackets: 1, ReplyBytes: 60,
		},
	}
}

func (n *node) NAT() dataplane.NATStatus {
	eth0, eth1 := netip.MustParseAddr("192.168.0.100"), netip.MustParseAddr("192.168.2.100")
	return dataplane.NATStatus{
		Addresses: []dataplane.NATAddress{
			{Address: eth0, Protocol: "tcp", Low: 49152, High: 65535, Size: 16384, Host: 4, Free: 16000, Used: 300, Held: 80},
			{Address: eth0, Protocol: "udp", Low: 49152, High: 65535, Size: 16384, Free: 16384},
			{Address: eth1, Protocol: "icmp", Low: 0, High: 65535, Size: 65536, Free: 65535, Used: 1},
		},
		Destinations: []dataplane.NATDestination{
			{Address: eth0, Protocol: "tcp", Destination: netip.MustParseAddrPort("198.51.100.10:443"), Flows: 290},
			{Address: eth1, Protocol: "icmp", Destination: netip.MustParseAddrPort("198.51.100.10:0"), Flows: 1},
		},
		Refused: 5, QuotaRefused: 6, Overlapped: 7, Delegated: 8,
	}
}

func (n *node) Masquerade() []dataplane.MasqueradeRuleStatus {
	return []dataplane.MasqueradeRuleStatus{
		{Number: 1, Name: "node-cidrs", Sources: []string{"pods"}, Destinations: []string{"10.200.0.0/24", "10.201.0.0/24"}, Action: "none", From: "tables: nodes[].nodeCidrs", Flows: 12},
		{
			Number: 2, Name: "ip-masq-agent", Sources: []string{"pods"}, Action: "none", From: "/etc/config/ip-masq-agent: line 3", Flows: 1,
			Destinations: []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15"},
		},
		{Number: 3, Name: "smtp", Sources: []string{"10.200.0.3/32"}, Destinations: []string{"203.0.113.25/32"}, Action: "drop", From: "tables: masquerade.rules[0]"},
		{
			Number: 4, Name: "pool", Sources: []string{"10.200.0.0/24"}, Destinations: []string{"0.0.0.0/0"}, Uplink: "eth1", Action: "snat", From: "tables: masquerade.rules[1]",
			Addresses: []string{"203.0.113.1", "203.0.113.2"}, Ports: "1024-65535",
		},
		{Number: 5, Name: "default", Sources: []string{"pods"}, Action: "snat", Addresses: []string{"uplink"}, From: "default", Flows: 999},
	}
}

func (n *node) Policies() []dataplane.EndpointPolicyStatus {
	p := netip.MustParsePrefix
	rule := func(flows uint64, r policy.Rule) dataplane.PolicyRuleStatus {
		return dataplane.PolicyRuleStatus{Rule: r, Flows: flows}
	}
	return []dataplane.EndpointPolicyStatus{
		{
			Endpoint: "default/web", Identity: 300, Namespace: "default", Labels: map[string]string{"app": "web", "tier": "front"},
			Ingress: dataplane.DirectionPolicyStatus{Default: policy.Deny, Rules: []dataplane.PolicyRuleStatus{
				rule(3, policy.Rule{Name: "default/no-telnet ingress[0]", Action: policy.Deny, Ports: []policy.Port{{Proto: 6, Low: 23, High: 23}}}),
				rule(1200, policy.Rule{Name: "default/web ingress[0]", Action: policy.Allow, Identities: []uint32{256, 300, 301, 302}, Ports: []policy.Port{{Proto: 6, Low: 80, High: 80}, {Proto: 6, Low: 8000, High: 8999}, {Proto: 132, Low: 0, High: 65535}}}),
				rule(0, policy.Rule{Name: "default/web ingress[1]", Action: policy.Allow, Blocks: []policy.Block{{CIDR: p("192.0.2.0/24"), Except: []netip.Prefix{p("192.0.2.128/25")}}}, Ports: []policy.Port{{Proto: 1, Low: 8, High: 8}}}),
				rule(0, policy.Rule{Name: "default/web ingress[2]", Action: policy.Allow, NoPeer: true}),
			}},
			Egress: dataplane.DirectionPolicyStatus{Default: policy.Allow},
		},
		{Endpoint: "pod2", Ingress: dataplane.DirectionPolicyStatus{Default: policy.Allow}, Egress: dataplane.DirectionPolicyStatus{Default: policy.Allow}},
	}
}

func (n *node) CountFlows(context.Context, []uint32) (uint64, error) { return 0, nil }

func (n *node) Services() []dataplane.ServiceStatus {
	a := netip.MustParseAddr
	return []dataplane.ServiceStatus{
		{
			Namespace: "kube-system", Name: "kube-dns", Address: a("10.96.0.10"), Redirect: "kube-system/nodelocaldns", Flows: 7, From: "tables: services[0]",
			Ports:    []nat.ServicePort{{Name: "dns", Protocol: 17, Port: 53, TargetPort: 53}, {Name: "dns-tcp", Protocol: 6, Port: 53, TargetPort: 53}, {Name: "metrics", Protocol: 6, Port: 9153, TargetPort: 9154}},
			Backends: []netip.Addr{a("10.200.0.5"), a("10.200.1.5"), a("10.200.2.5"), a("10.200.3.5")},
		},
		{Namespace: "default", Name: "nobody", Address: a("10.96.0.11"), Ports: []nat.ServicePort{{Protocol: 6, Port: 80, TargetPort: 8080}}, From: "tables: services[1]"},
	}
}

func (n *node) Redirects() []dataplane.RedirectStatus {
	a, at := netip.MustParseAddr, netip.MustParseAddrPort
	pods := []dataplane.RedirectPod{
		{
			Endpoint: "pod1", Queries: dataplane.QueryCounts{Queries: 1010, Answers: 1003, Resends: 3, CacheAnswers: 1000, ServiceAnswers: 3, Late: 1, Duplicates: 2, QuotaDrops: 5}, InFlight: 2,
			Rcodes: map[string]uint64{"NOERROR": 600, "NXDOMAIN": 403},
			Recent: []dataplane.SampledQuery{
				{Name: "example.org.default.svc.cluster.local.", Type: "AAAA", Time: started.Add(time.Hour)}, {Name: "example.org.", Type: "A", Time: started.Add(2 * time.Hour)},
			},
		},
		{Endpoint: "default/pod2", Queries: dataplane.QueryCounts{Queries: 1}, InFlight: 1},
	}
	pods[0].Latency[0], pods[0].Latency[9], pods[0].Latency[13] = 1000, 2, 1
	return []dataplane.RedirectStatus{
		{
			Namespace: "kube-system", Name: "nodelocaldns", Service: "kube-system/kube-dns", State: dataplane.RedirectActive, From: "/etc/ringway/redirects.yaml: line 1", Flows: 12, InFlight: 3,
			Frontends: []dataplane.RedirectFrontend{{Address: at("10.96.0.10:53"), Protocol: 17, BackendPort: 53}, {Address: at("10.96.0.10:53"), Protocol: 6, BackendPort: 8053}},
			Backends: []dataplane.RedirectBackend{
				{Name: "kube-system/node-local-dns-x", Address: a("10.200.0.9"), Health: dataplane.BackendHealthy, Queries: 900, Answers: 900},
				{Name: "kube-system/node-local-dns-y", Address: a("10.200.0.10"), Health: dataplane.BackendQuarantined, Queries: 100, Answers: 97},
			},
			Queries: dataplane.QueryCounts{Queries: 1011, Answers: 1003, Resends: 3, CacheAnswers: 1000, ServiceAnswers: 3, Late: 1, Duplicates: 2, QuotaDrops: 5},
			Pods:    pods,
		},
		{
			Namespace: "default", Name: "metadata", State: dataplane.RedirectActive, From: "tables: redirects[0]",
			Frontends: []dataplane.RedirectFrontend{{Address: at("169.254.169.254:80"), Protocol: 6, BackendPort: 8080}},
			Backends:  []dataplane.RedirectBackend{{Name: "node", Address: a("169.254.20.10"), Health: dataplane.BackendHealthy}},
		},
		{Namespace: "kube-system", Name: "old", Service: "kube-system/dns", State: "unknown service kube-system/dns", From: "tables: redirects[1]"},
	}
}

func (n *node) Nodes() []dataplane.NodeStatus {
	return []dataplane.NodeStatus{
		{Node: dataplane.Node{Name: "node1", Address: netip.MustParseAddr("192.168.0.100"), NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.200.0.0/24"), netip.MustParsePrefix("10.201.0.0/24")}}, Local: true, Mode: "local"},
		{Node: dataplane.Node{Name: "node4", Address: netip.MustParseAddr("192.168.1.103"), NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.200.3.0/24")}, VTEPMAC: [6]byte{2, 0x52, 0xc0, 0xa8, 1, 0x67}}, Mode: "overlay", PathMTU: 1400, PathMTUExpires: started.Add(time.Hour)},
	}
}

func (n *node) Routes(yield func(dataplane.RouteStatus) bool) {
	for _, r := range []dataplane.RouteStatus{
		{Prefix: netip.MustParsePrefix("10.200.0.3/32"), Kind: "endpoint", Port: "pod1", MTU: 1450, Source: "endpoint"},
		{Prefix: netip.MustParsePrefix("10.200.3.0/24"), Kind: "overlay", Via: netip.MustParseAddr("192.168.1.103"), Port: "eth0", MTU: 1450, Source: "tables", Node: "node4"},
		{Prefix: netip.MustParsePrefix("10.66.0.0/16"), Kind: "blackhole", Source: "kernel"},
	} {
		if !yield(r) {
			return
		}
	}
}

func (n *node) Neighbours() []dataplane.NeighbourStatus {
	return []dataplane.NeighbourStatus{
		{Address: netip.MustParseAddr("192.168.0.1"), MAC: "02:00:00:00:00:01", Port: "eth0", State: "reachable"},
		{Address: netip.MustParseAddr("192.168.0.101"), Port: "eth0", State: "failed"},
	}
}

func (n *node) Endpoints() []dataplane.EndpointStatus {
	return []dataplane.EndpointStatus{
		{Name: "pod1", Address: netip.MustParseAddr("10.200.0.3"), MAC: "02:52:57:00:00:01", Netns: "/run/netns/pod1", Ifname: "eth0", Device: "rwe1", Ifindex: 12, Slot: 1, Labels: map[string]string{"tier": "front", "app": "web"}, Ports: []string{"http=80/TCP", "dns=53/UDP"}, State: "up", RXPackets: 10, RXBytes: 980, TXPackets: 11, TXBytes: 1078},
		{Name: "default/pod2", Address: netip.MustParseAddr("10.200.0.4"), MAC: "02:52:57:00:00:02", Netns: "/run/netns/pod2", Ifname: "eth0", Device: "rwe2", Ifindex: 14, Slot: 2, Worker: 1, State: "down"},
	}
}

func (n *node) Drops() []dataplane.DropStatus {
	return []dataplane.DropStatus{
		{Reason: "no-route", Sentence: "no route to the destination", Packets: 40},
		{Reason: "too-short", Sentence: "the frame ends before its headers do"},
		{Reason: "ttl-exceeded", Sentence: "the TTL ran out here", Benign: true, Packets: 3},
	}
}

func (n *node) AddEndpoint(_ context.Context, r dataplane.EndpointRequest) (dataplane.EndpointStatus, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.added = append(n.added, r)
	return dataplane.EndpointStatus{Name: r.Name, Address: netip.MustParseAddr("10.200.0.9"), Netns: r.Netns, Ifname: r.Ifname, State: "up"}, nil
}

func (n *node) DeleteEndpoint(_ context.Context, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deleted = append(n.deleted, name)
	return nil
}

func (n *node) Capture(ctx context.Context, r dataplane.CaptureRequest, sink func(dataplane.CapturedPacket) error) error {
	n.mu.Lock()
	n.asked = r
	n.mu.Unlock()
	for _, p := range n.packets {
		if err := sink(p); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// serve answers for n until the test ends, where RINGWAY_SOCKET leads to.
func serve(t *testing.T, n *node) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rw") // the test's own directory may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket = filepath.Join(dir, "agent.sock")
	l, err := control.Listen(socket, control.Access{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- control.Serve(ctx, control.Options{Listener: l, Engine: n, Node: "node1", Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(socket); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the socket did not come")
		}
	}
	t.Setenv("RINGWAY_SOCKET", socket)
	return socket
}

// ringway runs the program.
func ringway(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// TestErrors: one line that names what is wrong and the remedy, exit code 2 for
// wrong usage and 1 for a failure.
func TestErrors(t *testing.T) {
	t.Setenv("RINGWAY_SOCKET", "/nonexistent/agent.sock")
	dir := t.TempDir()
	config := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(config, []byte("workers: 0\nidle: never\nnode: node1\nuplinks: [{device: eth0}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const noAgent = "ringway: no agent answers on /nonexistent/agent.sock: is it running?\n"
	cases := []struct {
		args   string
		code   int
		stderr string
	}{
		{"status", 1, noAgent},
		{"get routes", 1, noAgent},
		{"get flows", 1, noAgent},
		{"get nat -o json", 1, noAgent},
		{"flush flows", 1, noAgent},
		{"flush flows --yes", 1, noAgent},
		{"endpoint add p --netns x", 1, noAgent},
		{"endpoint del p", 1, noAgent},
		{"capture", 1, noAgent},
		{"status --socket /nonexistent/2", 1, "ringway: no agent answers on /nonexistent/2: is it running?\n"},
		{"status --node nobody --prefix none-", 1, "ringway: the lab none- has no host \"nobody\": see ringway lab status --prefix none-\n"},
		{"agent -c " + config, 1, "ringway: " + config + ": workers: 0 is out of range: choose 1 to 64 (and 1 more)\n"},
		{"agent -c /nonexistent/agent.yaml", 1, "ringway: read the configuration: open /nonexistent/agent.yaml: no such file or directory\n"},

		{"frobnicate", 2, "ringway: unknown command \"frobnicate\" for \"ringway\"\n"},
		{"status --frob", 2, "ringway: unknown flag: --frob\n"},
		{"status now", 2, "ringway: unknown command \"now\" for \"ringway status\"\n"},
		{"status -o xml", 2, "ringway: -o xml is not known: write json, yaml or wide\n"},
		{"status --node ../x", 2, "ringway: --node \"../x\" is no name of a directory under /run/ringway/lab: see ringway lab status\n"},
		{"status --node a --socket b", 2, "ringway: --socket and --node name two agents: leave one out\n"},
		{"get", 2, "ringway: get needs a kind: write one of drops, endpoints, flows, masquerade, namespaces, nat, neighbors, networkpolicies, nodes, policies, pools, ports, redirects, routes, routingconfig, services\n"},
		{"get frobs -o json", 2, "ringway: get \"frobs\" is not known: write one of drops, endpoints, flows, masquerade, namespaces, nat, neighbors, networkpolicies, nodes, policies, pools, ports, redirects, routes, routingconfig, services\n"},
		{"get routes eth0", 2, "ringway: unknown command \"eth0\" for \"ringway get routes\"\n"},
		{"get routes --snat", 2, "ringway: unknown flag: --snat\n"},
		{"get flows -o xml", 2, "ringway: -o xml is not known: write json, yaml or wide\n"},
		{"get flows --protocol gre", 2, "ringway: protocol: \"gre\" is not known: write tcp, udp, icmp, sctp or a number from 0 to 255\n"},
		{"get flows --address 10.0.0.0/8", 2, "ringway: address: \"10.0.0.0/8\" is not an IPv4 address: write one address, as in 10.200.0.3\n"},
		{"get flows --port 65536", 2, "ringway: port: 65536 is out of range: choose 0 to 65535\n"},
		{"get flows --port -1", 2, "ringway: invalid argument \"-1\" for \"--port\" flag: strconv.ParseUint: parsing \"-1\": invalid syntax\n"},
		{"flush", 2, "ringway: flush needs flows: see ringway flush -h\n"},
		{"flush nat", 2, "ringway: unknown command \"nat\" for \"ringway flush\"\n"},
		{"flush flows pod1", 2, "ringway: unknown command \"pod1\" for \"ringway flush flows\"\n"},
		{"flush flows --yes --endpoint Pod", 2, "ringway: endpoint: \"Pod\" is not an RFC 1123 name: use a-z, 0-9, - and ., with a letter or digit at both ends of each part\n"},
		{"endpoint", 2, "ringway: endpoint needs add or del: see ringway endpoint -h\n"},
		{"endpoint add p", 2, "ringway: --netns is missing: give a path, or a name under /run/netns\n"},
		{"apply", 2, "ringway: -f is missing: give the file with the objects, or - for stdin\n"},
		{"apply -f /nonexistent/x.yaml", 1, "ringway: read the objects: open /nonexistent/x.yaml: no such file or directory\n"},
		{"diff -f /nonexistent/x.yaml", 2, "ringway: read the objects: open /nonexistent/x.yaml: no such file or directory\n"},
		{"delete", 2, "ringway: delete needs KIND and NAME, or -f FILE\n"},
		{"delete frob x", 2, "ringway: kind \"frob\" is not known: write one of nodes, pools, namespaces, routingconfig, masquerade, endpoints, services, redirects, networkpolicies\n"},
		{"delete node x -n y", 2, "ringway: a Node is in no namespace: leave -n out\n"},
		{"delete node x --controller unix:///nonexistent/c.sock", 1, "ringway: no controller answers at unix:///nonexistent/c.sock: is it running?\n"},
		{"get pools --controller /nonexistent/c.sock", 1, "ringway: no controller answers at unix:///nonexistent/c.sock: is it running?\n"},
		{"get nodes node1 --controller 127.0.0.1:6650", 1, "ringway: a controller elsewhere is asked by certificate: give --ca, --cert and --key, or RINGWAY_CA, RINGWAY_CERT and RINGWAY_KEY\n"},
		{"get nodes --controller x --socket y", 2, "ringway: --controller asks a controller, --socket and --node an agent: leave one out\n"},
		{"get nodes node1 --socket y", 2, "ringway: an agent has no single nodes: leave node1 out, or ask a controller by --controller\n"},
		{"controller", 2, "ringway: config: is missing: give the file by -c; --print-config shows its keys\n"},
		{"controller -c /nonexistent/controller.yaml", 1, "ringway: read the configuration: open /nonexistent/controller.yaml: no such file or directory\n"},
		{"endpoint add p --netns x --label app", 2, "ringway: --label \"app\" is not k=v: write it as in app=web\n"},
		{"capture -c -1", 2, "ringway: -c -1 is negative: leave it out for no end\n"},
	}
	for _, c := range cases {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := ringway(t, strings.Fields(c.args)...)
			if code != c.code || stderr != c.stderr || stdout != "" {
				t.Errorf("exit code %d, %q and %q\nwant %d and %q", code, stderr, stdout, c.code, c.stderr)
			}
		})
	}
}

func TestOneLine(t *testing.T) {
	for want, err := range map[string]error{
		"one":                     errors.New("one"),
		"one; two; three":         errors.Join(errors.New("one"), errors.New("two"), errors.New("three")),
		"f: a: b: c (and 1 more)": fmt.Errorf("f: %w", control.Problems{{Field: "a", Reason: "b", Remedy: "c"}, {Field: "d"}}),
	} {
		if got := oneLine(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPrintConfig(t *testing.T) {
	code, stdout, stderr := ringway(t, "agent", "--print-config")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	golden(t, "agent.yaml", stdout)
	code, stdout, stderr = ringway(t, "controller", "--print-config")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	golden(t, "controller.yaml", stdout)
}

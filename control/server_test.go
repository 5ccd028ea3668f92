package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

// serve runs an agent's control side around e until the test ends.
func serve(t *testing.T, e Engine, tables string) (*Client, *logBuffer) {
	t.Helper()
	socket := shortSocket(t)
	l, err := Listen(socket, Access{})
	if err != nil {
		t.Fatal(err)
	}
	log, text := newLog()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- Serve(ctx, Options{Listener: l, Engine: e, Node: "node1", Tables: tables, Log: log})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	waitFor(t, "the socket", func() bool { _, err := os.Lstat(socket); return err == nil })
	return dial(t, socket), text
}

func dial(t *testing.T, socket string) *Client {
	t.Helper()
	c, err := NewClient(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}

func TestApply(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e, "")
	version, err := c.Apply(t.Context(), TableSet(goodTables(5)))
	if err != nil || version != 5 {
		t.Fatalf("version %d, %v", version, err)
	}
	if !reflect.DeepEqual(e.applied, []dataplane.Tables{goodTables(5)}) || e.sources[0] != "api" {
		t.Errorf("the engine got %+v from %v", e.applied, e.sources)
	}
	if _, err := c.Apply(t.Context(), TableSet(goodTables(5))); err != nil {
		t.Errorf("the same version again: %v", err)
	}
	for version, want := range map[uint64]string{
		4: "version: 4 is older than 5, which is in force: offer version 5 or later",
		0: "version: missing: number the sets upwards from 1",
	} {
		_, err := c.Apply(t.Context(), TableSet(goodTables(version)))
		if err == nil || err.Error() != want {
			t.Errorf("version %d: got %v, want %s", version, err, want)
		}
	}

	bad := TableSet(goodTables(6))
	bad.Nodes[1].NodeCidrs[0] = "10.200.1.5/24"
	bad.Routing = "x"
	_, err = c.Apply(t.Context(), bad)
	want := Problems{
		{"routing", `"x" is not known`, "write overlay, direct or hybrid"},
		{"nodes[1].nodeCidrs[0]", "10.200.1.5/24 has host bits set", "write 10.200.1.0/24"},
	}
	var got Problems
	if !errors.As(err, &got) || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", err, want)
	}
	if e.lastRefused().Error() != want.Error() {
		t.Errorf("the engine remembers %v", e.lastRefused())
	}
	if len(e.versions()) != 2 {
		t.Errorf("applied versions %v, want two", e.versions())
	}

	e.applyErr = errors.New("no memory")
	if _, err := c.Apply(t.Context(), TableSet(goodTables(7))); err == nil || err.Error() != "apply table set 7: no memory" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Apply(t.Context(), nil); err == nil {
		t.Error("no set at all is applied")
	}
}

func TestTablesAreInForceWhenTheSocketAppears(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables.yaml")
	put(t, path, doc(9))
	c, _ := serve(t, newFakeEngine(), path)
	s, err := c.Status(t.Context())
	if err != nil || s.GetTables().GetVersion() != 9 {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestServeEndsWhenTheTablesCannotBeWatched(t *testing.T) {
	l, err := Listen(shortSocket(t), Access{})
	if err != nil {
		t.Fatal(err)
	}
	log, _ := newLog()
	err = Serve(t.Context(), Options{Listener: l, Engine: newFakeEngine(), Tables: "/nonexistent/tables.yaml", Log: log})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/tables.yaml") {
		t.Errorf("got %v", err)
	}
}

// TestListings puts more into each listing than a chunk holds.
func TestListings(t *testing.T) {
	e := newFakeEngine()
	const many = 20000
	for i := range many {
		a := netip.MustParseAddr(host32(10<<24 + uint32(i)))
		e.routes = append(e.routes, dataplane.RouteStatus{Prefix: netip.PrefixFrom(a, 32), Kind: "overlay", Via: a, Port: "eth0", MTU: 1450, Source: "tables", Node: "n"})
		e.neighs = append(e.neighs, dataplane.NeighbourStatus{Address: a, MAC: "02:00:00:00:00:01", Port: "eth0", State: "stale"})
		e.nodes = append(e.nodes, dataplane.NodeStatus{Node: dataplane.Node{Name: fmt.Sprint("n", i), Address: a}, Mode: "overlay", PathMTU: 1400, PathMTUExpires: time.Unix(100, 0)})
		e.endpoints = append(e.endpoints, dataplane.EndpointStatus{Name: fmt.Sprint("p", i), Address: a, Slot: uint32(i), RXBytes: 1 << 40, Labels: map[string]string{"k": "v"}})
	}
	e.drops = []dataplane.DropStatus{{Reason: "no-route", Sentence: "s", Packets: 7}}
	e.status = dataplane.Status{Node: "node1", Reasons: []string{"r"}, Routes: many, Ports: []dataplane.PortStatus{{Name: "eth0", Queue: 1, Counters: map[string]uint64{"rx": 3}}},
		Workers: []dataplane.WorkerStatus{{ID: 1, CPUs: []int{2}, Frames: dataplane.FrameStatus{Total: 9, Held: 9}}}}
	c, _ := serve(t, e, "")
	ctx := t.Context()

	routes, err := c.Routes(ctx)
	if err != nil || len(routes.GetItems()) != many {
		t.Fatalf("%d routes, %v", len(routes.GetItems()), err)
	}
	want := &pb.Route{Prefix: "10.0.78.31/32", Kind: "overlay", Via: "10.0.78.31", Port: "eth0", Mtu: 1450, Source: "tables", Node: "n"}
	if got := routes.GetItems()[many-1]; !proto.Equal(got, want) {
		t.Errorf("last route is %v, want %v", got, want)
	}
	neighs, err := c.Neighbors(ctx)
	if err != nil || len(neighs.GetItems()) != many || neighs.GetItems()[0].GetState() != "stale" {
		t.Errorf("%d neighbours, %v", len(neighs.GetItems()), err)
	}
	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes.GetItems()) != many || nodes.GetItems()[1].GetPathMtuExpires().GetSeconds() != 100 {
		t.Errorf("%d nodes, %v", len(nodes.GetItems()), err)
	}
	endpoints, err := c.Endpoints(ctx)
	if err != nil || len(endpoints.GetItems()) != many || endpoints.GetItems()[5].GetRxBytes() != 1<<40 || endpoints.GetItems()[5].GetLabels()["k"] != "v" {
		t.Errorf("%d endpoints, %v", len(endpoints.GetItems()), err)
	}
	drops, err := c.Drops(ctx)
	if err != nil || len(drops.GetItems()) != 1 || drops.GetItems()[0].GetPackets() != 7 {
		t.Errorf("drops %v, %v", drops, err)
	}
	ports, err := c.Ports(ctx)
	if err != nil || len(ports.GetItems()) != 1 || ports.GetItems()[0].GetCounters()["rx"] != 3 {
		t.Errorf("ports %v, %v", ports, err)
	}
	s, err := c.Status(ctx)
	if err != nil || s.GetHealthy() || s.GetWorkers()[0].GetFrames().GetHeld() != 9 || s.GetStarted() != nil {
		t.Errorf("status %v, %v", s, err)
	}
}

func TestChunksAreBounded(t *testing.T) {
	var sizes []int
	c := chunks[*pb.Route]{send: func(items []*pb.Route) error {
		sizes = append(sizes, proto.Size(&pb.GetRoutesResponse{Items: items}))
		return nil
	}}
	for range 30000 {
		c.add(&pb.Route{Prefix: "10.200.100.100/32", Kind: "overlay", Via: "192.168.100.100"})
	}
	if err := c.end(); err != nil || len(sizes) < 2 {
		t.Fatalf("%d chunks, %v", len(sizes), err)
	}
	for _, size := range sizes {
		if size > 2*chunkBytes {
			t.Errorf("a chunk has %d bytes", size)
		}
	}
	gone := errors.New("gone")
	c = chunks[*pb.Route]{send: func([]*pb.Route) error { return gone }}
	n := 0
	for n = 0; c.add(&pb.Route{Prefix: "10.200.100.100/32"}); n++ {
	}
	if n > chunkBytes || !errors.Is(c.end(), gone) {
		t.Errorf("a listing to nobody goes on for %d items, %v", n, c.end())
	}
}

func TestEndpoints(t *testing.T) {
	e := newFakeEngine()
	c, log := serve(t, e, "")
	ctx := t.Context()
	got, err := c.AddEndpoint(ctx, &pb.AddEndpointRequest{Name: "default/pod-1", Netns: "pod1", Address: "10.200.0.3", Labels: map[string]string{"app": "web"}})
	if err != nil || got.GetAddress() != "10.200.0.3" {
		t.Fatalf("%v, %v", got, err)
	}
	want := dataplane.EndpointRequest{Name: "default/pod-1", Netns: "pod1", Address: netip.MustParseAddr("10.200.0.3"), Ifname: "eth0", Labels: map[string]string{"app": "web"}}
	if !reflect.DeepEqual(e.added, []dataplane.EndpointRequest{want}) {
		t.Errorf("the engine got %+v", e.added)
	}
	if err := c.DeleteEndpoint(ctx, "default/pod-1"); err != nil || !reflect.DeepEqual(e.deleted, []string{"default/pod-1"}) {
		t.Errorf("deleted %v, %v", e.deleted, err)
	}
	who := fmt.Sprintf("uid=%d gid=%d pid=%d", os.Getuid(), os.Getgid(), os.Getpid())
	for _, line := range []string{"call=AddEndpoint name=default/pod-1 netns=pod1 ip=10.200.0.3 " + who, "call=DeleteEndpoint name=default/pod-1 " + who} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %q:\n%s", line, log)
		}
	}

	for _, bad := range []struct {
		request *pb.AddEndpointRequest
		want    string
	}{
		{&pb.AddEndpointRequest{Netns: "x"}, "name: missing"},
		{&pb.AddEndpointRequest{Name: "a/b/c", Netns: "x"}, `name: "a/b" is not an RFC 1123 name`},
		{&pb.AddEndpointRequest{Name: "../x", Netns: "x"}, `name: ".." is not an RFC 1123 name`},
		{&pb.AddEndpointRequest{Name: "p"}, "netns: missing: give the path"},
		{&pb.AddEndpointRequest{Name: "p", Netns: "x", Address: "10.0.0.300"}, "address: \"10.0.0.300\" is not an IP address"},
		{&pb.AddEndpointRequest{Name: "p", Netns: "x", Ifname: "a/b"}, `ifname: "a/b" is no interface name`},
		{&pb.AddEndpointRequest{Name: "p", Netns: "x", Labels: map[string]string{"": "v"}}, `labels: "" is empty or too long`},
	} {
		if _, err := c.AddEndpoint(ctx, bad.request); err == nil || !strings.HasPrefix(err.Error(), bad.want) {
			t.Errorf("%v: got %v, want %s", bad.request, err, bad.want)
		}
	}
	if err := c.DeleteEndpoint(ctx, ""); err == nil || !strings.HasPrefix(err.Error(), "name: missing") {
		t.Errorf("delete of no name: %v", err)
	}
	if len(e.added) != 1 {
		t.Errorf("the engine was asked %d times, want once", len(e.added))
	}

	e.endpointErr = errors.New("no such namespace")
	if _, err := c.AddEndpoint(ctx, &pb.AddEndpointRequest{Name: "p", Netns: "x"}); err == nil || err.Error() != "add endpoint p: no such namespace" {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(log.String(), `level=WARN msg=audit call=AddEndpoint name=p`) {
		t.Errorf("the log lacks the failure:\n%s", log)
	}
}

func TestCapture(t *testing.T) {
	e := newFakeEngine()
	at := time.Unix(1700000000, 123456789)
	for i := range 10 {
		e.packets = append(e.packets, dataplane.CapturedPacket{Port: "eth0", Received: i%2 == 0, Time: at, Length: 100 + i, Data: []byte{byte(i)}})
	}
	c, _ := serve(t, e, "")
	var got []*pb.Packet
	enough := errors.New("enough")
	err := c.Capture(t.Context(), &pb.CaptureRequest{Port: "eth0", SnapLen: 1}, func(p *pb.Packet) error {
		got = append(got, p)
		if len(got) == 10 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || len(got) != 10 {
		t.Fatalf("%d packets, %v", len(got), err)
	}
	if p := got[3]; p.GetReceived() || p.GetLength() != 103 || !p.GetTime().AsTime().Equal(at) || p.GetData()[0] != 3 {
		t.Errorf("got %v", p)
	}
	if want := (dataplane.CaptureRequest{Port: "eth0", SnapLen: 1, RX: true, TX: true}); e.captured[0] != want {
		t.Errorf("the engine was asked for %+v, want %+v", e.captured[0], want)
	}

	ctx, cancel := context.WithCancel(t.Context())
	err = c.Capture(ctx, &pb.CaptureRequest{Rx: true}, func(*pb.Packet) error { cancel(); return nil })
	if err != nil {
		t.Errorf("a capture that its caller ends gives %v", err)
	}
	e.mu.Lock()
	e.captureErr = errors.New(`no port "x"`)
	e.mu.Unlock()
	if err := c.Capture(t.Context(), &pb.CaptureRequest{Port: "x"}, nil); err == nil || err.Error() != `capture: no port "x"` {
		t.Errorf("got %v", err)
	}
}

// TestStopEndsCaptures: an agent that stops does not wait for who looks on.
func TestStopEndsCaptures(t *testing.T) {
	socket := shortSocket(t)
	l, err := Listen(socket, Access{})
	if err != nil {
		t.Fatal(err)
	}
	e := newFakeEngine()
	e.packets = []dataplane.CapturedPacket{{Port: "eth0"}}
	log, _ := newLog()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, Options{Listener: l, Engine: e, Node: "node1", Log: log}) }()
	waitFor(t, "the socket", func() bool { _, err := os.Lstat(socket); return err == nil })
	c := dial(t, socket)
	err = c.Capture(t.Context(), &pb.CaptureRequest{}, func(*pb.Packet) error { stop(); return nil })
	if err == nil {
		t.Error("the capture ends as if the caller had wanted it")
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	e := newFakeEngine()
	e.panics = true
	c, log := serve(t, e, "")
	_, err1 := c.Status(t.Context())
	_, err2 := c.Routes(t.Context())
	for _, err := range []error{err1, err2} {
		if err == nil || err.Error() != "the server ran into a bug: its log has the stack" {
			t.Errorf("got %v", err)
		}
	}
	if n := strings.Count(log.String(), "panic=\"a bug\""); n != 2 {
		t.Errorf("%d panics in the log, want 2:\n%s", n, log)
	}
}

func TestNoAgent(t *testing.T) {
	socket := shortSocket(t)
	want := "no agent answers on " + socket + ": is it running?"
	c := dial(t, socket)
	if _, err := c.Status(t.Context()); err == nil || err.Error() != want {
		t.Errorf("without a socket: %v, want %s", err, want)
	}
	stale(t, socket)
	if _, err := c.Routes(t.Context()); err == nil || err.Error() != want {
		t.Errorf("with a stale socket: %v, want %s", err, want)
	}
}

// stale leaves a socket as an agent that was killed does.
func stale(t *testing.T, socket string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestListen(t *testing.T) {
	socket := filepath.Join(shortDir(t), "new", "agent.sock")
	taken := "another agent answers on " + socket + ": stop it or change the key socket"
	if err := RemoveSocket(socket); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	l, err := Listen(socket, Access{})
	if err != nil {
		t.Fatal(err)
	}
	stale(t, socket)
	if err := l.publish(); err != nil { // over the stale one
		t.Fatal(err)
	}
	if info, err := os.Lstat(socket); err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(socket)); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("its directory is %v, %v", info.Mode(), err)
	}
	if _, err := Listen(socket, Access{}); err == nil || err.Error() != taken {
		t.Errorf("a second agent: %v, want %s", err, taken)
	}
	if err := RemoveSocket(socket); err == nil || err.Error() != taken {
		t.Errorf("removal under a live agent: %v, want %s", err, taken)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if l, err = Listen(socket, Access{}); err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	l.Close()
	if err := RemoveSocket(socket); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(socket)); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}

	other, err := net.Listen("unix", socket) // alive, but not of this kind
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket, Access{}); err == nil || err.Error() != taken {
		t.Errorf("beside a stranger: %v, want %s", err, taken)
	}
	other.Close()
	put(t, socket, "precious")
	if _, err := Listen(socket, Access{}); err == nil || !strings.Contains(err.Error(), "there is something else of that name") {
		t.Errorf("over a file: %v", err)
	}
	if b, err := os.ReadFile(socket); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

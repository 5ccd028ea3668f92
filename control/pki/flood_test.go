package pki

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	grpcstatus "google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
)

// heap is by how much the heap in use grows while something runs, at the most.
type heap struct {
	base  uint64
	most  uint64
	stop  chan struct{}
	group sync.WaitGroup
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func watchHeap() *heap {
	runtime.GC()
	h := &heap{base: heapInUse(), stop: make(chan struct{})}
	h.group.Go(func() {
		for {
			h.most = max(h.most, heapInUse())
			select {
			case <-h.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return h
}

func (h *heap) growth() int64 {
	close(h.stop)
	h.group.Wait()
	return int64(h.most) - int64(h.base)
}

// keepsGoing has a stream carry numbers there and back until the returned
// function is called, which tells how many.
func keepsGoing(t *testing.T, c *grpc.ClientConn) func() int {
	t.Helper()
	stream := follow(t, c)
	echo(t, stream, 0)
	var n atomic.Int64
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			m := &pb.FollowRequest{Message: &pb.FollowRequest_Answer{Answer: &pb.Answer{Version: uint64(n.Load())}}}
			if err := stream.Send(m); err != nil {
				failed <- err
				return
			}
			if _, err := stream.Recv(); err != nil {
				failed <- err
				return
			}
			n.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
	return func() int {
		close(stop)
		if err := <-failed; err != nil {
			t.Errorf("the stream of another broke: %v", err)
		}
		return int(n.Load())
	}
}

// TestSlowConnections: a thousand peers that never finish their handshake, some
// of them sending a byte now and then, neither starve others nor take memory.
func TestSlowConnections(t *testing.T) {
	const many = 1000
	for _, c := range []struct {
		name       string
		address    func(i int) net.IP
		handshakes int
		most       int // connections that may be held
	}{
		{"from one address", func(int) net.IP { return net.IPv4(127, 0, 0, 2) }, 1024, 64},
		{"from many", func(i int) net.IP { return net.IPv4(127, 1, byte(i>>8), byte(i)) }, 1024, many},
		{"from many, with room for few", func(i int) net.IP { return net.IPv4(127, 1, byte(i>>8), byte(i)) }, 300, 300},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, func(o *GateOptions) { o.Limits.Handshakes, o.Limits.Handshake = c.handshakes, 3*time.Second })
			stop := keepsGoing(t, s.as(t, RoleNode, "n1"))
			h := watchHeap()
			conns := make([]net.Conn, 0, many)
			for i := range many {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.address(i)}}
				conn, err := d.DialContext(t.Context(), "tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conns = append(conns, conn)
				if i%3 == 0 { // a TLS record that never ends
					_, _ = conn.Write([]byte{22, 3, 1, 1, 0, 1})
				}
			}
			waitFor(t, "the flood", func() bool { total, _ := s.connections(); return total > c.most/2 })
			mustJoin(t, s.as(t, RoleNode, "n2"), "spiffe://"+domain+"/node/n2")
			if total, _ := s.connections(); total > c.most+3 {
				t.Errorf("%d connections are held, want %d at most", total, c.most)
			}
			var buffer [64]byte
			for i, conn := range conns { // each is closed by the server in the end
				for {
					_ = conn.SetReadDeadline(time.Now().Add(patience))
					_, err := conn.Read(buffer[:])
					if err == nil {
						continue
					}
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatalf("connection %d is still open", i)
					}
					break
				}
			}
			if growth := h.growth(); growth > 64<<20 {
				t.Errorf("the heap grew by %d MiB", growth>>20)
			}
			if n := stop(); n == 0 {
				t.Error("the stream of another stood still")
			}
			waitFor(t, "a line in the log", func() bool {
				return s.log.has("a connection is refused", "in time") || s.log.has("a connection is refused", "too many")
			})
			if lines := strings.Count(s.log.String(), "\n"); lines > 300 {
				t.Errorf("%d lines in the log", lines)
			}
		})
	}
}

// TestConnectionLimits: of all, and of one identity.
func TestConnectionLimits(t *testing.T) {
	s := serve(t, func(o *GateOptions) { o.Limits.ConnectionsPerIdentity, o.Limits.Connections = 3, 4 })
	config := showing(pair(t, issue(t, s.ca, Request{Role: RoleNode, Name: "n1"})))
	connect := func() (*grpc.ClientConn, error) {
		c := s.dial(t, credentials.NewTLS(config))
		_, err := join(t, c)
		return c, err
	}
	var held []*grpc.ClientConn
	for range 3 {
		c, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if _, err := connect(); err == nil {
		t.Error("a fourth connection of one identity is let in")
	}
	waitFor(t, "a line in the log", func() bool { return s.log.has("a connection is refused", "/node/n1", "it has too many connections") })
	waitFor(t, "a second identity", func() bool { _, err := join(t, s.as(t, RoleNode, "n2")); return err == nil })
	if _, err := join(t, s.as(t, RoleNode, "n3")); err == nil {
		t.Error("a fifth connection is let in")
	}
	waitFor(t, "a line in the log", func() bool { return s.log.has("a connection is refused", "there are too many connections") })
	held[0].Close()
	waitFor(t, "room", func() bool { _, err := connect(); return err == nil })
}

// repeated is a message of many bytes that takes few.
type repeated struct {
	piece mem.Buffer
	times int
}

// repeatedCodec sends repeated as it is.
type repeatedCodec struct{}

func (repeatedCodec) Name() string { return "proto" }

func (repeatedCodec) Marshal(v any) (mem.BufferSlice, error) {
	m := v.(*repeated)
	out := make(mem.BufferSlice, m.times)
	for i := range out {
		m.piece.Ref()
		out[i] = m.piece
	}
	return out, nil
}

func (repeatedCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

// TestBigMessages: a message of 1 GiB, sent or only announced, or small until it
// is decompressed, is refused without being kept, while the stream of another
// goes on.
func TestBigMessages(t *testing.T) {
	s := serve(t, nil)
	stop := keepsGoing(t, s.as(t, RoleNode, "n1"))
	c := s.as(t, RoleNode, "n2")
	send := func(bytes int, options ...grpc.CallOption) error {
		const piece = 64 << 10
		m := &repeated{piece: mem.SliceBuffer(make([]byte, piece)), times: bytes / piece}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return c.Invoke(ctx, pb.ControllerService_Join_FullMethodName, m, &repeated{}, append(options, grpc.ForceCodecV2(repeatedCodec{}))...)
	}
	h := watchHeap()
	wantCode(t, send(1<<30), codes.ResourceExhausted)
	wantCode(t, send(32<<20, grpc.UseCompressor(gzip.Name)), codes.ResourceExhausted) // 32 KiB on the wire
	wantCode(t, announce(t, s, 1<<30), codes.ResourceExhausted)
	if growth := h.growth(); growth > 96<<20 {
		t.Errorf("the heap grew by %d MiB", growth>>20)
	}
	if n := stop(); n == 0 {
		t.Error("the stream of another stood still")
	}
	// The twin: what is not too long gets as far as to be decoded, and is no message.
	if err := send(1 << 20); err == nil || strings.Contains(err.Error(), "larger than max") {
		t.Errorf("1 MiB: %v", err)
	}
	mustJoin(t, c, "spiffe://"+domain+"/node/n2")
}

// rawHTTP2 is a client that keeps to no limit.
type rawHTTP2 struct {
	conn   *tls.Conn
	framer *http2.Framer
}

func rawDial(t *testing.T, s *testServer) *rawHTTP2 {
	t.Helper()
	config := showing(pair(t, issue(t, s.ca, Request{Role: RoleNode, Name: "raw"})))
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", s.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	r := &rawHTTP2{conn, http2.NewFramer(conn, conn)}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := r.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return r
}

// call begins a call on a stream.
func (r *rawHTTP2) call(t *testing.T, stream uint32, method string) {
	t.Helper()
	var block strings.Builder
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", method}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	err := r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(block.String()), EndHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
}

// announce begins a message of so many bytes and never sends them.
func announce(t *testing.T, s *testServer, bytes uint32) error {
	t.Helper()
	r := rawDial(t, s)
	r.call(t, 1, pb.ControllerService_Join_FullMethodName)
	prefix := binary.BigEndian.AppendUint32([]byte{0}, bytes)
	if err := r.framer.WriteData(1, false, prefix); err != nil {
		t.Fatal(err)
	}
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		f, err := r.framer.ReadFrame()
		if err != nil {
			return err
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			for _, field := range h.Fields {
				if field.Name == "grpc-status" {
					var code codes.Code
					if err := code.UnmarshalJSON([]byte(field.Value)); err != nil {
						t.Fatal(err)
					}
					return grpcstatus.Error(code, "refused")
				}
			}
		}
	}
}

// TestTooManyStreams: a client that asks for more calls at once than it may have
// gets the rest refused, and its others go on.
func TestTooManyStreams(t *testing.T) {
	s := serve(t, func(o *GateOptions) { o.Limits.CallBurst = 1000 })
	limit := int(DefaultLimits().Streams)
	r := rawDial(t, s)
	const more = 10
	for i := range limit + more {
		r.call(t, uint32(2*i+1), pb.ControllerService_Follow_FullMethodName)
	}
	refused := 0
	for refused < more {
		f, err := r.framer.ReadFrame()
		if err != nil {
			t.Fatalf("%d of %d are refused: %v", refused, more, err)
		}
		if reset, ok := f.(*http2.RSTStreamFrame); ok {
			if refused++; reset.ErrCode != http2.ErrCodeRefusedStream || int(reset.StreamID) <= 2*limit {
				t.Errorf("stream %d: %v", reset.StreamID, reset.ErrCode)
			}
		}
	}
	if n := len(s.calls()); n > limit {
		t.Errorf("%d calls got through, want %d at most", n, limit)
	}

	// A client that knows its limit waits for its turn.
	c := s.as(t, RoleNode, "n1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range limit {
		stream, err := pb.NewControllerServiceClient(c).Follow(ctx)
		if err != nil {
			t.Fatal(err)
		}
		echo(t, stream, uint64(i))
	}
	short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	_, err := pb.NewControllerServiceClient(c).Join(short, &pb.JoinRequest{})
	wantCode(t, err, codes.DeadlineExceeded)
	cancel()
	mustJoin(t, c, "spiffe://"+domain+"/node/n1")
}

// TestRateLimit is of each identity by itself, over all of its connections.
func TestRateLimit(t *testing.T) {
	s := serve(t, func(o *GateOptions) { o.Limits.CallRate, o.Limits.CallBurst = float64(rate.Every(time.Hour)), 10 })
	config := credentials.NewTLS(showing(pair(t, issue(t, s.ca, Request{Role: RoleNode, Name: "n1"}))))
	first, second := s.dial(t, config), s.dial(t, config)
	for i := range 10 {
		c := first
		if i%2 == 1 {
			c = second
		}
		mustJoin(t, c, "spiffe://"+domain+"/node/n1")
	}
	for _, c := range []*grpc.ClientConn{first, second} {
		_, err := join(t, c)
		wantCode(t, err, codes.ResourceExhausted)
		stream := follow(t, c)
		_, err = stream.Recv()
		wantCode(t, err, codes.ResourceExhausted)
	}
	waitFor(t, "a line in the log", func() bool { return s.log.has("a call is refused", "/node/n1", "call less often") })
	mustJoin(t, s.as(t, RoleNode, "n2"), "spiffe://"+domain+"/node/n2")
}

// TestConnectionAge: a connection ends, though it is in use, and calls do not
// notice; a stream ends and begins anew.
func TestConnectionAge(t *testing.T) {
	s := serve(t, func(o *GateOptions) {
		// The grace is for calls that are on their way when the age is reached.
		o.Limits.ConnectionAge, o.Limits.ConnectionGrace = 300*time.Millisecond, 2*time.Second
		o.Limits.CallRate = 1e6
	})
	c := s.as(t, RoleNode, "n1")
	ports := map[string]bool{}
	end := time.Now().Add(patience)
	for streams := 0; streams < 2 && time.Now().Before(end); streams++ {
		stream := follow(t, c)
		for n := uint64(0); ; n++ {
			mustJoin(t, c, "spiffe://"+domain+"/node/n1")
			if err := stream.Send(&pb.FollowRequest{}); err != nil {
				break
			}
			if _, err := stream.Recv(); err != nil {
				wantCode(t, err, codes.Unavailable)
				break
			}
			time.Sleep(time.Millisecond)
			if time.Now().After(end) {
				t.Fatal("the stream never ends")
			}
		}
	}
	for _, p := range s.calls() {
		ports[fmt.Sprint(p.Address)] = true
	}
	if len(ports) < 2 {
		t.Errorf("all came by %v", ports)
	}
}

// TestDeadlineAndPanic: a call ends though its handler does not mean to, and a
// bug in one is an answer.
func TestDeadlineAndPanic(t *testing.T) {
	s := serve(t, func(o *GateOptions) { o.Limits.Call = 50 * time.Millisecond })
	c := pb.NewControllerServiceClient(s.as(t, RoleNode, "n1"))
	_, err := c.ListEndpoints(t.Context(), &pb.ListEndpointsRequest{})
	wantCode(t, err, codes.DeadlineExceeded)
	_, err = c.UnregisterEndpoint(t.Context(), &pb.UnregisterEndpointRequest{})
	wantCode(t, err, codes.Internal)
	if !s.log.has("panic in a call", "call=UnregisterEndpoint", "a bug") {
		t.Errorf("the log lacks the bug:\n%s", s.log)
	}
}

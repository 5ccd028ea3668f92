package rpc

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// caller is a Caller of a name.
type caller struct {
	credentials.CommonAuthInfo
	key string
}

func (caller) AuthType() string { return "test" }

func (c caller) Key() string { return c.key }

func (c caller) Describe() []slog.Attr { return []slog.Attr{slog.String("id", c.key)} }

func by(key string) context.Context {
	return peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}, AuthInfo: caller{key: key}})
}

// clock is set by hand.
type clock struct{ now time.Time }

func testAudit(t *testing.T, path string) (*Audit, *clock, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	a, err := OpenAudit(path, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &clock{time.Date(2030, 1, 2, 3, 4, 5, 678_999_999, time.FixedZone("", 3600))}
	a.now = func() time.Time { return c.now }
	return a, c, log
}

// unary makes one call.
func unary(a *Audit, ctx context.Context, method string, req, answer any, err error) {
	_, _ = a.Unary(ControllerParticulars)(ctx, req, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) { return answer, err })
}

// stream is a ServerStream with one request.
type stream struct {
	grpc.ServerStream
	ctx context.Context
	err error // instead of a request
}

func (s stream) Context() context.Context { return s.ctx }

func (s stream) RecvMsg(any) error { return s.err }

func key(kind, namespace, name string) *pb.ObjectKey {
	return &pb.ObjectKey{Kind: kind, Namespace: namespace, Name: name}
}

func TestAuditLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	a, clock, log := testAudit(t, path)
	alice := by("spiffe://ringway.test/operator/alice")
	node := by("spiffe://ringway.test/node/n1")
	var many []*pb.ObjectKey
	for i := range 25 {
		many = append(many, key("Node", "", fmt.Sprint("n", i)))
	}
	unary(a, alice, pb.ObjectService_ApplyObjects_FullMethodName, &pb.ApplyObjectsRequest{Documents: []string{"", "", ""}}, &pb.ApplyObjectsResponse{Version: 12, Results: []*pb.ObjectResult{
		{Key: key("Pool", "", "p"), Result: "created"},
		{Key: key("NetworkPolicy", "default", "web"), Result: "unchanged"},
		{Key: key("NetworkPolicy", "default", "db"), Result: "changed"},
	}}, nil)
	clock.now = clock.now.Add(time.Second)
	unary(a, alice, pb.ObjectService_ApplyObjects_FullMethodName, &pb.ApplyObjectsRequest{Documents: []string{""}}, nil, grpcstatus.Error(codes.InvalidArgument, "spec.cidrs[0]: \"x\" is no prefix:\nwrite it as in 10.0.0.0/8"))
	unary(a, alice, pb.ObjectService_DeleteObjects_FullMethodName, &pb.DeleteObjectsRequest{Keys: many}, &pb.DeleteObjectsResponse{Version: 13}, nil)
	unary(a, alice, pb.ObjectService_GetControllerStatus_FullMethodName, &pb.GetControllerStatusRequest{}, &pb.GetControllerStatusResponse{}, nil)
	unary(a, node, pb.ControllerService_Join_FullMethodName, &pb.JoinRequest{Address: "192.0.2.1"}, &pb.JoinResponse{}, nil)
	unary(a, node, pb.ControllerService_RegisterEndpoint_FullMethodName, &pb.RegisterEndpointRequest{Name: "default/web"}, &pb.RegisterEndpointResponse{Address: "10.0.0.2", Version: 14}, nil)
	unary(a, node, pb.ControllerService_RegisterEndpoint_FullMethodName, &pb.RegisterEndpointRequest{Name: strings.Repeat("x", 1000)}, nil, errors.New(strings.Repeat("é", 1000)))
	unary(a, node, pb.ControllerService_UnregisterEndpoint_FullMethodName, &pb.UnregisterEndpointRequest{Name: "default/web"}, &pb.UnregisterEndpointResponse{}, nil)
	unary(a, context.Background(), "/ringway.v1.AgentService/Unknown", nil, nil, grpcstatus.Error(codes.PermissionDenied, "no"))
	capture := a.Stream(func(any, any) []slog.Attr { return []slog.Attr{slog.String("port", "eth0")} })
	for _, err := range []error{nil, io.ErrUnexpectedEOF} {
		_ = capture(nil, stream{ctx: alice, err: err}, &grpc.StreamServerInfo{FullMethod: pb.AgentService_Capture_FullMethodName}, func(_ any, s grpc.ServerStream) error {
			for range 2 {
				if err := s.RecvMsg(nil); err != nil {
					return grpcstatus.Error(codes.Canceled, err.Error())
				}
			}
			return nil
		})
	}
	_ = capture(nil, stream{ctx: alice}, &grpc.StreamServerInfo{FullMethod: pb.AgentService_GetFlows_FullMethodName}, func(_ any, s grpc.ServerStream) error { return s.RecvMsg(nil) })

	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "audit.jsonl", got)
	golden(t, "audit.log", dropTimes(log.Bytes()))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// dropTimes removes the first field of each line of a log.
func dropTimes(b []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		_, rest, _ := bytes.Cut(line, []byte(" "))
		out.Write(rest)
	}
	return out.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// TestDeniedLinesAreBounded: whoever may not change anything fills no disk.
func TestDeniedLinesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	a, clock, _ := testAudit(t, path)
	try := func(n int, err error) int {
		before := lines(t, path)
		for range n {
			unary(a, by("x"), pb.ControllerService_Join_FullMethodName, &pb.JoinRequest{}, nil, err)
		}
		return lines(t, path) - before
	}
	denied := grpcstatus.Error(codes.PermissionDenied, "no")
	if n := try(1000, denied); n != deniedBurst {
		t.Errorf("%d lines of 1000, want %d", n, deniedBurst)
	}
	if n := try(1000, nil); n != 1000 {
		t.Errorf("%d lines of 1000 changes", n)
	}
	clock.now = clock.now.Add(10 * time.Second)
	if n := try(1000, denied); n != 10 {
		t.Errorf("%d lines after 10 s", n)
	}
}

func lines(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

func TestAuditFileIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	a, _, _ := testAudit(t, path)
	call := func() { unary(a, by("x"), pb.ControllerService_Join_FullMethodName, &pb.JoinRequest{}, nil, nil) }
	call()
	call()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	call()
	if old, now := lines(t, path+".1"), lines(t, path); old != 2 || now != 1 {
		t.Errorf("%d and %d lines, want 2 and 1", old, now)
	}
	if err := os.Truncate(path, 0); err != nil { // logrotate's copytruncate
		t.Fatal(err)
	}
	call()
	if b, err := os.ReadFile(path); err != nil || b[0] != '{' {
		t.Errorf("%q, %v", b, err)
	}
	if err := a.Err(); err != nil {
		t.Error(err)
	}

	again, _, _ := testAudit(t, path) // another start appends
	unary(again, by("x"), pb.ControllerService_Join_FullMethodName, &pb.JoinRequest{}, nil, nil)
	if n := lines(t, path); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

// TestFullDisk is a tmpfs of one page: the call is not hindered, the log has what
// the file lacks, and no line is in another.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to mount takes root")
	}
	dir := t.TempDir()
	// A mount namespace that ends with this thread, which is not given back.
	runtime.LockOSThread()
	err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4096"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // on this goroutine, and thread
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "audit")
	log := &bytes.Buffer{}
	a, err := OpenAudit(path, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; a.Err() == nil && n < 1000; n++ {
		unary(a, by("x"), pb.ControllerService_Join_FullMethodName, &pb.JoinRequest{Address: "192.0.2.1"}, nil, nil)
	}
	if err := a.Err(); !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(err.Error(), "auditLog: ") {
		t.Errorf("after %d lines: %v", n, err)
	}
	if got := strings.Count(log.String(), "msg=audit"); got != n || !strings.Contains(log.String(), "the audit log lacks a call") {
		t.Errorf("%d lines in the log, want %d", got, n)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=8192"); err != nil {
		t.Fatal(err)
	}
	unary(a, by("after"), pb.ControllerService_Join_FullMethodName, &pb.JoinRequest{}, nil, nil)
	if err := a.Err(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	whole := 0
	for _, line := range all {
		if strings.HasPrefix(line, `{"time":`) && strings.HasSuffix(line, `"result":"OK"}`) {
			whole++
		}
	}
	if torn := len(all) - whole; torn > 1 || !strings.Contains(all[len(all)-1], `"after"`) {
		t.Errorf("%d of %d lines are torn, the last is %s", torn, len(all), all[len(all)-1])
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestWithoutAFile(t *testing.T) {
	a, _, log := testAudit(t, "")
	unary(a, by("x"), pb.ControllerService_Join_FullMethodName, &pb.JoinRequest{}, nil, nil)
	if err := a.Err(); err != nil || !strings.Contains(log.String(), "msg=audit call=Join nodeAddress=\"\" id=x") {
		t.Errorf("%v, %s", err, log)
	}
}

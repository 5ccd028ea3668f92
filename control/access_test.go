package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpcstatus "google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
	"ringway/control/rpc"
	"ringway/dataplane"
)

// Numbers of users and groups that nobody has.
const (
	stranger   = 61000
	lookers    = 61001
	admins     = 61002
	childEnv   = "RINGWAY_TEST_CALL_ON_SOCKET"
	childLimit = 20 * time.Second
)

// calls are one of each kind: name, and what makes it.
var calls = []struct {
	name string
	call func(context.Context, pb.AgentServiceClient) error
}{
	{"GetStatus", func(ctx context.Context, c pb.AgentServiceClient) error {
		_, err := c.GetStatus(ctx, &pb.GetStatusRequest{})
		return err
	}},
	{"GetFlows", func(ctx context.Context, c pb.AgentServiceClient) error {
		s, err := c.GetFlows(ctx, &pb.GetFlowsRequest{})
		return drained(s, err)
	}},
	{"Apply", func(ctx context.Context, c pb.AgentServiceClient) error {
		_, err := c.Apply(ctx, &pb.ApplyRequest{TableSet: TableSet(goodTables(7))})
		return err
	}},
	{"AddEndpoint", func(ctx context.Context, c pb.AgentServiceClient) error {
		_, err := c.AddEndpoint(ctx, &pb.AddEndpointRequest{Name: "p", Netns: "x"})
		return err
	}},
	{"DeleteEndpoint", func(ctx context.Context, c pb.AgentServiceClient) error {
		_, err := c.DeleteEndpoint(ctx, &pb.DeleteEndpointRequest{Name: "p"})
		return err
	}},
	{"FlushFlows", func(ctx context.Context, c pb.AgentServiceClient) error {
		_, err := c.FlushFlows(ctx, &pb.FlushFlowsRequest{})
		return err
	}},
	{"Capture", func(ctx context.Context, c pb.AgentServiceClient) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, err := c.Capture(ctx, &pb.CaptureRequest{Port: "eth0"})
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}},
}

func drained[T any](s grpc.ServerStreamingClient[T], err error) error {
	for err == nil {
		_, err = s.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// TestChild is what other users run of this program: it makes each call once and
// prints how that ended.
func TestChild(t *testing.T) {
	socket := os.Getenv(childEnv)
	if socket == "" {
		t.Skip("for TestWhoMayDoWhat")
	}
	c := dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), childLimit)
	defer cancel()
	for _, k := range calls {
		err := k.call(ctx, c.agent)
		fmt.Printf("call %s %s %s\n", k.name, grpcstatus.Code(err), grpcstatus.Convert(err).Message())
	}
}

// asUser runs TestChild and returns what became of each call, and the first
// refusal's words.
func asUser(t *testing.T, program, socket string, attr *syscall.SysProcAttr) (codes map[string]string, words string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, "-test.run=^TestChild$", "-test.count=1")
	c.Dir = "/"
	c.Env = []string{childEnv + "=" + socket}
	c.SysProcAttr = attr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	codes = map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var name, code string
		if n, _ := fmt.Sscanf(lines.Text(), "call %s %s", &name, &code); n != 2 {
			continue
		}
		codes[name] = code
		if code == "PermissionDenied" && words == "" {
			_, words, _ = strings.Cut(lines.Text(), code+" ")
		}
	}
	return codes, words
}

// publicDir is a directory that every user may pass, with a copy of this program
// in it that every user may run.
func publicDir(t *testing.T) (dir, program string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "child")
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, program
}

func withIDs(uid, gid uint32, groups ...uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
}

// outcome is what a caller gets: nothing, looking, or everything.
func outcome(read, change string) map[string]string {
	out := map[string]string{}
	for _, k := range calls {
		out[k.name] = change
		if strings.HasPrefix(k.name, "Get") {
			out[k.name] = read
		}
	}
	return out
}

// TestWhoMayDoWhat has real users call an agent.
func TestWhoMayDoWhat(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to be other users takes root")
	}
	nothing, looking, everything := outcome("Unavailable", "Unavailable"), outcome("OK", "PermissionDenied"), outcome("OK", "OK")
	both := Access{SocketGroup: fmt.Sprint(lookers), AdminGroup: fmt.Sprint(admins)}
	many := []uint32{lookers}
	for g := uint32(62000); g < 62200; g++ {
		many = append(many, g)
	}
	withNamespace := withIDs(0, 0)
	withNamespace.Cloneflags = syscall.CLONE_NEWUSER
	withNamespace.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: stranger, Size: 1}}
	withNamespace.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: lookers, Size: 1}}
	withNamespace.GidMappingsEnableSetgroups = true
	for _, c := range []struct {
		name   string
		access Access
		user   *syscall.SysProcAttr
		want   map[string]string
		words  string
	}{
		{"root", both, withIDs(0, 0), everything, ""},
		{"root without groups of ours", Access{}, withIDs(0, stranger), everything, ""},
		{"a stranger", both, withIDs(stranger, stranger), nothing, ""},
		{"who may look", both, withIDs(stranger, stranger, lookers), looking, "user 61000 may look but change nothing: call as root, or as a member of group 61002 (adminGroup)"},
		{"who may look, by the first group", both, withIDs(stranger, lookers), looking, ""},
		{"an admin", both, withIDs(stranger, stranger, lookers, admins), everything, ""},
		{"an admin by the first group", both, withIDs(stranger, admins, lookers), everything, ""},
		{"an admin who may not connect", both, withIDs(stranger, admins), nothing, ""},
		{"an admin with many groups", both, withIDs(stranger, stranger, append(slices.Clone(many), admins)...), everything, ""},
		{"who has many groups but that", both, withIDs(stranger, stranger, many...), looking, ""},
		{"an admin, without a group to look", Access{AdminGroup: fmt.Sprint(admins)}, withIDs(stranger, stranger, admins), everything, ""},
		{"who may look, without admins", Access{SocketGroup: fmt.Sprint(lookers)}, withIDs(stranger, lookers), looking, "user 61000 may look but change nothing: call as root, or name a group of yours in adminGroup"},
		{"root's group", Access{}, withIDs(stranger, stranger, 0), looking, ""},
		{"root of another user namespace", both, withNamespace, looking, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, program := publicDir(t)
			socket, auditLog := filepath.Join(dir, "run", "a.sock"), filepath.Join(dir, "audit")
			e, log := serveAt(t, socket, c.access, auditLog)
			got, words := asUser(t, program, socket, c.user)
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if c.words != "" && words != c.words {
				t.Errorf("got %q, want %q", words, c.words)
			}
			if may := c.want["Apply"] == "OK"; len(e.versions()) > 0 != may || len(e.added) > 0 != may || len(e.deleted) > 0 != may || len(e.captured) > 0 != may || len(e.filters) > 1 != may {
				t.Errorf("what came through: %v %v %v %v %v", e.versions(), e.added, e.deleted, e.captured, e.filters)
			}
			denied := c.want["Apply"] == "PermissionDenied"
			if got := strings.Contains(log.String(), `msg="a call is refused" call=Apply uid=61000`); got != denied {
				t.Errorf("the log tells of a refusal: %v, want %v", got, denied)
			}
			wantAudit(t, auditLog, c.want)
		})
	}
}

// wantAudit looks for a line of each call that changes something. That a stream has
// ended may be written when its caller is gone.
func wantAudit(t *testing.T, path string, want map[string]string) {
	t.Helper()
	lines := map[string]string{}
	for name, code := range want {
		switch {
		case strings.HasPrefix(name, "Get") || code == "Unavailable":
		case name == "Capture" && code == "OK":
			lines[name] = "began OK "
		default:
			lines[name] = code + " "
		}
	}
	got := audited(t, path)
	for deadline := time.Now().Add(10 * time.Second); !maps.Equal(got, lines) && time.Now().Before(deadline); got = audited(t, path) {
		time.Sleep(10 * time.Millisecond)
	}
	if !maps.Equal(got, lines) {
		t.Errorf("the audit log has %v, want %v", got, lines)
	}
}

// audited is the results in an audit log, by call.
func audited(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(b)) {
		var l struct {
			Call, Result string
			Caller       struct{ UID, GID, PID *int }
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Caller.UID == nil || l.Caller.GID == nil || l.Caller.PID == nil {
			t.Errorf("%s: %v", line, err)
		}
		found[l.Call] += l.Result + " "
	}
	return found
}

// serveAt is serve with a socket of its own.
func serveAt(t *testing.T, socket string, access Access, auditLog string) (*fakeEngine, *logBuffer) {
	t.Helper()
	e := newFakeEngine()
	e.packets = []dataplane.CapturedPacket{{Port: "eth0"}}
	e.status.Reasons = nil
	l, err := Listen(socket, access)
	if err != nil {
		t.Fatal(err)
	}
	log, text := newLog()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- Serve(ctx, Options{Listener: l, Engine: e, Node: "node1", AuditLog: auditLog, Log: log})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	waitFor(t, "the socket", func() bool { _, err := os.Lstat(socket); return err == nil })
	return e, text
}

func TestGroupsOfTheSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to give files away takes root")
	}
	for _, c := range []struct {
		access Access
		want   uint32
	}{
		{Access{}, uint32(os.Getegid())},
		{Access{SocketGroup: "61001"}, lookers},
		{Access{AdminGroup: "61002"}, admins},
		{Access{SocketGroup: "61001", AdminGroup: "61002"}, lookers},
		{Access{SocketGroup: "root"}, 0},
	} {
		dir := shortDir(t)
		own, shared := filepath.Join(dir, "own"), filepath.Join(dir, "shared")
		if err := os.Mkdir(shared, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{own, shared} {
			l, err := Listen(filepath.Join(path, "a.sock"), c.access)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.publish(); err != nil {
				t.Fatal(err)
			}
			if got := groupOf(t, filepath.Join(path, "a.sock")); got != c.want {
				t.Errorf("%+v: the socket has group %d, want %d", c.access, got, c.want)
			}
			l.Close()
		}
		if got := groupOf(t, own); got != c.want {
			t.Errorf("%+v: the directory has group %d, want %d", c.access, got, c.want)
		}
		if got := groupOf(t, shared); got != uint32(os.Getegid()) {
			t.Errorf("%+v: a directory that is not as ours are has group %d", c.access, got)
		}
	}
	for _, c := range []struct {
		access Access
		want   string
	}{
		{Access{SocketGroup: "no such"}, `socketGroup: there is no group "no such": make it by groupadd --system, or write its number`},
		{Access{AdminGroup: "no-such"}, `adminGroup: there is no group "no-such": make it by groupadd --system, or write its number`},
		{Access{AdminGroup: "4294967295"}, `adminGroup: "4294967295" is no number of a group: write a group's name, or its number`},
	} {
		path := filepath.Join(shortDir(t), "new", "a.sock")
		if _, err := Listen(path, c.access); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory was made: %v", err)
		}
	}
}

func groupOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Gid
}

// TestEveryMethodIsOfAKind: what reads is called Get something, and nothing else
// is.
func TestEveryMethodIsOfAKind(t *testing.T) {
	d := pb.AgentService_ServiceDesc
	var names []string
	for _, m := range d.Methods {
		names = append(names, m.MethodName)
	}
	for _, s := range d.Streams {
		names = append(names, s.StreamName)
	}
	for _, name := range names {
		if got := rpc.Reads("/" + d.ServiceName + "/" + name); got != strings.HasPrefix(name, "Get") {
			t.Errorf("%s reads: %v", name, got)
		}
	}
}

// TestAuditLogThatCannotBeWritten: calls go on, and the status says so.
func TestAuditLogThatCannotBeWritten(t *testing.T) {
	socket := shortSocket(t)
	path := filepath.Join(t.TempDir(), "audit")
	_, log := serveAt(t, socket, Access{}, path)
	c := dial(t, socket)
	healthy := func(want bool) {
		t.Helper()
		s, err := c.Status(t.Context())
		if err != nil || s.GetHealthy() != want || want != (len(s.GetReasons()) == 0) {
			t.Errorf("status %v, %v; want healthy %v", s, err, want)
		}
	}
	flush := func() {
		t.Helper()
		if _, err := c.FlushFlows(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	flush()
	healthy(true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	flush()
	healthy(false)
	if !strings.Contains(log.String(), "the audit log lacks a call") {
		t.Errorf("the log does not tell:\n%s", log)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	flush()
	healthy(true)

	l, err := Listen(shortSocket(t), Access{})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := newLog()
	err = Serve(t.Context(), Options{Listener: l, Engine: newFakeEngine(), AuditLog: "/nonexistent/audit", Log: text})
	if err == nil || !strings.HasPrefix(err.Error(), "auditLog: open /nonexistent/audit") {
		t.Errorf("got %v", err)
	}
}

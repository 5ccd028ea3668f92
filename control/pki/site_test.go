package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const domain = "ringway.test"

// patience is how long a test waits for what has to come.
const patience = time.Minute

// newCA makes a CA and returns its directory.
func newCA(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := InitCA(dir, domain, 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	return dir
}

func issue(t *testing.T, ca string, r Request) Files {
	t.Helper()
	out := filepath.Join(t.TempDir(), string(r.Role)+"-"+r.Name)
	issueTo(t, ca, out, r)
	return FilesIn(out)
}

func issueTo(t *testing.T, ca, out string, r Request) Issued {
	t.Helper()
	r.TTL = time.Hour
	made, err := Issue(ca, out, r)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// forge signs with the CA's key what Issue would not.
func forge(t *testing.T, ca string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	a, err := openCA(ca)
	if err != nil {
		t.Fatal(err)
	}
	return forgeBy(t, a.Leaf, a.PrivateKey.(*ecdsa.PrivateKey), change)
}

func forgeBy(t *testing.T, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "forged"},
		NotBefore:   time.Now().Add(-time.Minute),
		NotAfter:    time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: domain, Path: "/node/n1"}},
	}
	if change != nil {
		change(template)
	}
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func pair(t *testing.T, f Files) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t *testing.T, f Files) *Source {
	t.Helper()
	s, err := Open(f, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

// logBuffer is a log that a test can read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) has(parts ...string) bool {
	for line := range strings.Lines(l.String()) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// controller answers as who it takes the caller for.
type controller struct {
	pb.UnimplementedControllerServiceServer
	mu    sync.Mutex
	peers []Peer // of the calls
}

func (c *controller) saw(ctx context.Context) Identity {
	p, _ := peer.FromContext(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	who := p.AuthInfo.(Peer)
	c.peers = append(c.peers, who)
	return who.Identity
}

func (c *controller) calls() []Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Peer(nil), c.peers...)
}

func (c *controller) Join(ctx context.Context, _ *pb.JoinRequest) (*pb.JoinResponse, error) {
	c.saw(ctx)
	who, err := PeerIdentity(ctx)
	return &pb.JoinResponse{Cluster: who.String()}, err
}

// ListEndpoints never ends by itself.
func (c *controller) ListEndpoints(ctx context.Context, _ *pb.ListEndpointsRequest) (*pb.ListEndpointsResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (c *controller) UnregisterEndpoint(context.Context, *pb.UnregisterEndpointRequest) (*pb.UnregisterEndpointResponse, error) {
	panic("a bug")
}

// Follow sends back the version of each answer.
func (c *controller) Follow(stream pb.ControllerService_FollowServer) error {
	c.saw(stream.Context())
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		v := m.GetAnswer().GetVersion()
		if err := stream.Send(&pb.FollowResponse{Message: &pb.FollowResponse_Check{Check: &pb.Check{Version: v}}}); err != nil {
			return err
		}
	}
}

// testServer is a controller behind a gate.
type testServer struct {
	*controller
	ca   string // directory
	gate *Gate
	addr string
	out  string // directory of its certificate
	log  *logBuffer
}

// serve runs a controller until the test ends.
func serve(t *testing.T, change func(*GateOptions)) *testServer {
	t.Helper()
	s := &testServer{controller: &controller{}, ca: newCA(t), out: filepath.Join(t.TempDir(), "controller"), log: &logBuffer{}}
	issueTo(t, s.ca, s.out, Request{Role: RoleController, Name: "c1"})
	o := GateOptions{Source: open(t, FilesIn(s.out)), Roles: ClientRoles(), Limits: DefaultLimits(), Log: slog.New(slog.NewTextHandler(s.log, nil))}
	if change != nil {
		change(&o)
	}
	s.gate = NewGate(o)
	g := grpc.NewServer(s.gate.ServerOptions()...)
	pb.RegisterControllerServiceServer(g, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	done := make(chan error)
	go func() { done <- g.Serve(s.gate.Listener(l)) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if total, waiting := s.connections(); total != 0 || waiting != 0 {
			t.Errorf("%d connections and %d handshakes are still counted", total, waiting)
		}
	})
	return s
}

// connections are those that the gate counts, and those of them in handshakes.
func (s *testServer) connections() (total, handshakes int) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.total, s.gate.handshakes.Len()
}

// dial connects with a configuration, when the first call is made.
func (s *testServer) dial(t *testing.T, creds credentials.TransportCredentials, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+s.addr, append(options, grpc.WithTransportCredentials(creds))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// as is a client with a certificate of the server's CA.
func (s *testServer) as(t *testing.T, role Role, name string) *grpc.ClientConn {
	t.Helper()
	source := open(t, issue(t, s.ca, Request{Role: role, Name: name}))
	return s.dial(t, credentials.NewTLS(source.ClientTLS(RoleController)))
}

// showing is a client that shows cert and takes any server.
func showing(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: certs, InsecureSkipVerify: true}
}

// follow begins a stream, which ends if the test does not get on.
func follow(t *testing.T, c grpc.ClientConnInterface) pb.ControllerService_FollowClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	stream, err := pb.NewControllerServiceClient(c).Follow(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func join(t *testing.T, c grpc.ClientConnInterface) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := pb.NewControllerServiceClient(c).Join(ctx, &pb.JoinRequest{})
	return r.GetCluster(), err
}

func mustJoin(t *testing.T, c grpc.ClientConnInterface, want string) {
	t.Helper()
	if got, err := join(t, c); err != nil || got != want {
		t.Errorf("taken for %q, %v; want %s", got, err, want)
	}
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := grpcstatus.Code(err); got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// echo sends a number along a stream and waits for its return.
func echo(t *testing.T, stream pb.ControllerService_FollowClient, n uint64) {
	t.Helper()
	err := stream.Send(&pb.FollowRequest{Message: &pb.FollowRequest_Answer{Answer: &pb.Answer{Version: n}}})
	if err != nil {
		t.Fatalf("send %d: %v", n, err)
	}
	m, err := stream.Recv()
	if err != nil || m.GetCheck().GetVersion() != n {
		t.Fatalf("got %v, %v, want %d", m, err, n)
	}
}

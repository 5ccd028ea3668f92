package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	pb "ringway/control/ringwayv1"
)

// serverSerial is that of the certificate that the server shows to a new
// connection.
func serverSerial(t *testing.T, c *grpc.ClientConn) string {
	t.Helper()
	var p peer.Peer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := pb.NewControllerServiceClient(c).Join(ctx, &pb.JoinRequest{}, grpc.Peer(&p)); err != nil {
		t.Fatal(err)
	}
	return serial(p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0])
}

// TestRotation: new connections use the new certificates of both sides, and a
// stream that began before goes on.
func TestRotation(t *testing.T) {
	s := serve(t, nil)
	out := filepath.Join(t.TempDir(), "node")
	first := issueTo(t, s.ca, out, Request{Role: RoleNode, Name: "n1"})
	client := open(t, FilesIn(out))
	creds := credentials.NewTLS(client.ClientTLS(RoleController))
	old := s.dial(t, creds)
	before := serverSerial(t, old)
	stream := follow(t, old)
	echo(t, stream, 1)

	server := issueTo(t, s.ca, s.out, Request{Role: RoleController, Name: "c1"})
	node := issueTo(t, s.ca, out, Request{Role: RoleNode, Name: "n1"})
	if server.Serial == before || node.Serial == first.Serial {
		t.Fatal("the serial numbers are the same")
	}
	inForce := func(s *Source, serialNumber string) func() bool {
		return func() bool { return serial(s.current.Load().pair.Leaf) == serialNumber }
	}
	waitFor(t, "the server's certificate", inForce(s.gate.o.Source, server.Serial))
	waitFor(t, "the node's certificate", inForce(client, node.Serial))
	if got := serverSerial(t, s.dial(t, creds)); got != server.Serial {
		t.Errorf("a new connection sees certificate %s, want %s", got, server.Serial)
	}
	calls := s.calls()
	if got := calls[len(calls)-1].Serial; got != node.Serial {
		t.Errorf("the server sees certificate %s, want %s", got, node.Serial)
	}
	echo(t, stream, 2)
	if got := serverSerial(t, old); got != before {
		t.Errorf("the old connection has certificate %s, want %s", got, before)
	}
}

// TestFilesThatAreNoUseChangeNothing: each leaves the certificate before in
// force, and says why.
func TestFilesThatAreNoUseChangeNothing(t *testing.T) {
	ca := newCA(t)
	out := filepath.Join(t.TempDir(), "node")
	made := issueTo(t, ca, out, Request{Role: RoleNode, Name: "n1"})
	f := FilesIn(out)
	good := map[string][]byte{f.CA: read(t, f.CA), f.Cert: read(t, f.Cert), f.Key: read(t, f.Key)}
	other := issue(t, ca, Request{Role: RoleNode, Name: "n1"})
	expired := issue(t, ca, Request{Role: RoleNode, Name: "n1", NotBefore: time.Now().Add(-2 * time.Hour)})
	early := issue(t, ca, Request{Role: RoleNode, Name: "n1", NotBefore: time.Now().Add(time.Hour)})
	foreign := issue(t, newCA(t), Request{Role: RoleNode, Name: "n1"})
	log := &logBuffer{}
	s, err := Open(f, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		name  string
		files map[string][]byte
		want  string
	}{
		{"half a certificate", map[string][]byte{f.Cert: good[f.Cert][:len(good[f.Cert])/2]}, "read the certificate"},
		{"an empty key", map[string][]byte{f.Key: nil}, "read the certificate"},
		{"half a key", map[string][]byte{f.Key: good[f.Key][:50]}, "read the certificate"},
		{"the key of another", map[string][]byte{f.Key: read(t, other.Key)}, "private key does not match"},
		{"the certificate of another", map[string][]byte{f.Cert: read(t, other.Cert)}, "private key does not match"},
		{"an empty bundle", map[string][]byte{f.CA: nil}, "there is no certificate"},
		{"half a bundle", map[string][]byte{f.CA: good[f.CA][:100]}, "something else than PEM"},
		{"a key in the bundle", map[string][]byte{f.CA: append(good[f.CA], good[f.Key]...)}, "there is a PRIVATE KEY"},
		{"no CA in the bundle", map[string][]byte{f.CA: good[f.Cert]}, "is not that of a CA"},
		{"the CA of others", map[string][]byte{f.CA: read(t, foreign.CA)}, "is not signed by a CA in"},
		{"expired", map[string][]byte{f.Cert: read(t, expired.Cert), f.Key: read(t, expired.Key)}, "expired 20"},
		{"early", map[string][]byte{f.Cert: read(t, early.Cert), f.Key: read(t, early.Key)}, "is not valid before 20"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for path, doc := range c.files {
				put(t, path, doc)
			}
			waitFor(t, c.want, func() bool { err := s.Err(); return err != nil && strings.Contains(err.Error(), c.want) })
			if got := serial(s.current.Load().pair.Leaf); got != made.Serial {
				t.Errorf("certificate %s is in force, want %s", got, made.Serial)
			}
			if !log.has("level=WARN", c.want, "kept=true") {
				t.Errorf("the log does not tell:\n%s", log)
			}
			for path := range c.files {
				put(t, path, good[path])
			}
			waitFor(t, "the end of the problem", func() bool { return s.Err() == nil })
		})
	}
	for path := range good {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the lack of "+path, func() bool { return s.Err() != nil && strings.Contains(s.Err().Error(), path) })
		put(t, path, good[path])
		waitFor(t, "the end of the problem", func() bool { return s.Err() == nil })
	}
}

// TestOneCAFollowsAnother is the procedure of docs/security.md: at no step is
// anybody shut out who has done the steps so far.
func TestOneCAFollowsAnother(t *testing.T) {
	s := serve(t, nil)
	out := filepath.Join(t.TempDir(), "node")
	issueTo(t, s.ca, out, Request{Role: RoleNode, Name: "n1"})
	client := open(t, FilesIn(out))
	try := func(step string) {
		t.Helper()
		if _, err := join(t, s.dial(t, credentials.NewTLS(client.ClientTLS(RoleController)))); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	try("before")
	next := newCA(t)
	late := s.dial(t, credentials.NewTLS(showing(pair(t, issue(t, next, Request{Role: RoleNode, Name: "n2"})))))
	if _, err := join(t, late); err == nil {
		t.Fatal("the new CA is trusted before anybody said so")
	}

	both := append(read(t, filepath.Join(s.ca, CACertFile)), read(t, filepath.Join(next, CACertFile))...)
	trusted := func(s *Source, n int) func() bool {
		return func() bool { return len(s.current.Load().authorities) == n }
	}
	for dir, source := range map[string]*Source{s.out: s.gate.o.Source, out: client} {
		put(t, filepath.Join(dir, CACertFile), both)
		waitFor(t, "both CAs", trusted(source, 2))
		try("both CAs in " + dir)
	}
	mustJoin(t, s.dial(t, credentials.NewTLS(showing(pair(t, issue(t, next, Request{Role: RoleNode, Name: "n2"}))))), "spiffe://"+domain+"/node/n2")

	for dir, r := range map[string]Request{out: {Role: RoleNode, Name: "n1"}, s.out: {Role: RoleController, Name: "c1"}} {
		made := issueTo(t, next, dir, r) // keeps the CA that was there
		source := client
		if dir == s.out {
			source = s.gate.o.Source
		}
		waitFor(t, "the new certificate", func() bool { return serial(source.current.Load().pair.Leaf) == made.Serial })
		if !trusted(source, 2)() {
			t.Error("Issue dropped a CA")
		}
		try("a certificate of the new CA in " + dir)
	}
	for dir, source := range map[string]*Source{s.out: s.gate.o.Source, out: client} {
		put(t, filepath.Join(dir, CACertFile), read(t, filepath.Join(next, CACertFile)))
		waitFor(t, "the new CA alone", trusted(source, 1))
		try("the new CA only in " + dir)
	}
	_, err := join(t, s.as(t, RoleNode, "n3")) // of the old CA
	if err == nil {
		t.Error("the old CA is still trusted")
	}
}

// TestClock: a certificate that was early comes into force without another
// change of its files, and one that has expired is told of.
func TestClock(t *testing.T) {
	ca := newCA(t)
	f := issue(t, ca, Request{Role: RoleNode, Name: "n1"})
	var now atomic.Pointer[time.Time]
	set := func(at time.Time) { now.Store(&at) }
	set(time.Now().Add(-time.Hour))
	s, err := Open(f, Options{Log: discard(), Now: func() time.Time { return *now.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "is not valid before") || !s.Expiry().IsZero() {
		t.Errorf("early: %v, %v", err, s.Expiry())
	}
	if _, err := s.certificate(); err == nil {
		t.Error("there is a certificate already")
	}
	if _, ok := s.Identity(); ok {
		t.Error("there is an identity already")
	}
	set(time.Now())
	s.look()
	if err := s.Err(); err != nil {
		t.Error(err)
	}
	if id, ok := s.Identity(); !ok || id.String() != "spiffe://"+domain+"/node/n1" {
		t.Errorf("got %v", id)
	}
	if until := time.Until(s.Expiry()); until < 50*time.Minute || until > time.Hour {
		t.Errorf("it expires in %v", until)
	}
	set(s.Expiry().Add(time.Second))
	if err := s.Err(); err == nil || !strings.HasPrefix(err.Error(), "the certificate in force expired") {
		t.Errorf("late: %v", err)
	}
}

// TestSymlinkSwap is a Kubernetes secret: three links by way of one that is
// exchanged.
func TestSymlinkSwap(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	links := FilesIn(dir)
	for _, path := range []string{links.CA, links.Cert, links.Key} {
		if err := os.Symlink(filepath.Join("..data", filepath.Base(path)), path); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(links, Options{Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Err() == nil {
		t.Error("dangling links are taken")
	}
	for i := range 3 {
		sub := fmt.Sprintf("..%d", i)
		made := issueTo(t, ca, filepath.Join(dir, sub), Request{Role: RoleNode, Name: "n1"})
		if err := os.Symlink(sub, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the certificate", func() bool {
			k := s.current.Load()
			return k != nil && serial(k.pair.Leaf) == made.Serial
		})
	}
}

func TestDirectoryMustExist(t *testing.T) {
	if _, err := Open(FilesIn(filepath.Join(t.TempDir(), "none")), Options{Log: discard()}); err == nil {
		t.Error("files whose coming would go unseen are accepted")
	}
}

// TestHostNames: etcd's members are known by their host, and a certificate for
// them needs no identity.
func TestHostNames(t *testing.T) {
	ca := newCA(t)
	f := issue(t, ca, Request{Role: RoleController, Name: "c1"})
	nameless := forge(t, ca, func(c *x509.Certificate) { c.URIs = nil })
	key, err := encodeKey(nameless.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	put(t, f.Cert, pemBlock("CERTIFICATE", nameless.Certificate[0]))
	put(t, f.Key, key)
	if s, err := Open(f, Options{Log: discard()}); err != nil || s.Err() == nil {
		t.Errorf("a certificate without an identity is taken: %v", err)
	} else {
		s.Close()
	}
	s, err := Open(f, Options{Log: discard(), HostNames: true})
	if err != nil || s.Err() != nil {
		t.Fatalf("%v, %v", err, s.Err())
	}
	defer s.Close()

	member := Request{Role: RoleEtcd, Name: "e1", DNS: []string{"etcd1.test"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	own, foreign := pair(t, issue(t, ca, member)), pair(t, issue(t, newCA(t), member))
	for _, c := range []struct {
		host string
		cert tls.Certificate
		want string
	}{
		{"etcd1.test", own, ""},
		{"192.0.2.1", own, ""},
		{"etcd2.test", own, "not etcd2.test"},
		{"192.0.2.2", own, "not 192.0.2.2"},
		{"etcd1.test", foreign, "unknown authority"},
		{"", own, "ServerName or InsecureSkipVerify"},
	} {
		config := s.HostTLS()
		config.ServerName = c.host
		shown, err := shake(t, config, &tls.Config{Certificates: []tls.Certificate{c.cert}, ClientAuth: tls.RequireAnyClientCert})
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: got %v, want %s", c.host, err, c.want)
		}
		if c.want == "" && (err != nil || len(shown.PeerCertificates) == 0 || !shown.PeerCertificates[0].Equal(nameless.Leaf)) {
			t.Errorf("%q: %v, the server sees %v", c.host, err, shown.PeerCertificates)
		}
	}
}

// shake is what a server sees of a client, and how it ended for the client.
func shake(t *testing.T, client, server *tls.Config) (seen tls.ConnectionState, err error) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer there.Close()
		c := tls.Server(there, server)
		if c.Handshake() == nil {
			seen = c.ConnectionState()
		}
		_, _ = io.Copy(io.Discard, there)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := tls.Client(here, client)
	if err = c.HandshakeContext(ctx); err == nil {
		_, err = c.Write([]byte("x")) // with TLS 1.3 the server is not done before
	}
	here.Close()
	<-done
	return seen, err
}

package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	pb "ringway/control/ringwayv1"
	"ringway/internal/filewatch"
)

func spiffeURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// TestWhoIsTurnedAway: each of them gets no call through, and a line in the log;
// the same client with a right certificate is served.
func TestWhoIsTurnedAway(t *testing.T) {
	s := serve(t, nil)
	node := issue(t, s.ca, Request{Role: RoleNode, Name: "n1"})
	past := time.Now().Add(-2 * time.Hour)
	future := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name   string
		config *tls.Config
		want   string // in the log
	}{
		{"no certificate", showing(), "client didn't provide a certificate"},
		{"another CA of the same name", showing(pair(t, issue(t, newCA(t), Request{Role: RoleNode, Name: "n1"}))), "its certificate is of another CA"},
		{"self-signed", showing(forgeBy(t, nil, nil, nil)), "its certificate is of another CA"},
		{"expired", showing(pair(t, issue(t, s.ca, Request{Role: RoleNode, Name: "n1", NotBefore: past}))), "its certificate is not valid now"},
		{"not valid yet", showing(pair(t, issue(t, s.ca, Request{Role: RoleNode, Name: "n1", NotBefore: future}))), "its certificate is not valid now"},
		{"a controller", showing(pair(t, issue(t, s.ca, Request{Role: RoleController, Name: "c2"}))), "its role is controller, and must be node or operator or viewer"},
		{"a role that there is not", showing(forge(t, s.ca, func(c *x509.Certificate) {
			c.URIs = []*url.URL{spiffeURL("spiffe://" + domain + "/chief/n1")}
		})), "is no identity of a cluster"},
		{"no name", showing(forge(t, s.ca, func(c *x509.Certificate) { c.URIs = nil })), "no URI SAN"},
		{"two names", showing(forge(t, s.ca, func(c *x509.Certificate) {
			c.URIs = append(c.URIs, spiffeURL("spiffe://"+domain+"/node/n2"))
		})), "more than one URI SAN"},
		{"a name with more behind it", showing(forge(t, s.ca, func(c *x509.Certificate) {
			c.URIs = []*url.URL{spiffeURL("spiffe://" + domain + "/node/n1/n2")}
		})), "is no identity of a cluster"},
		{"another trust domain", showing(forge(t, s.ca, func(c *x509.Certificate) {
			c.URIs = []*url.URL{spiffeURL("spiffe://other.test/node/n1")}
		})), "spiffe://other.test/node/n1 is not taken"},
		{"a server's certificate only", showing(forge(t, s.ca, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})), "is not for this use"},
		{"TLS 1.2", &tls.Config{Certificates: []tls.Certificate{pair(t, node)}, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, "unsupported versions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(s.calls())
			_, err := join(t, s.dial(t, credentials.NewTLS(c.config)))
			wantCode(t, err, codes.Unavailable)
			if len(s.calls()) != before {
				t.Error("the call got through")
			}
			waitFor(t, "a line in the log with "+c.want, func() bool {
				return s.log.has("a connection is refused", "address=127.0.0.1:", c.want)
			})
		})
	}
	mustJoin(t, s.dial(t, credentials.NewTLS(showing(pair(t, node)))), "spiffe://"+domain+"/node/n1")
	mustJoin(t, s.dial(t, credentials.NewTLS(showing(forge(t, s.ca, nil)))), "spiffe://"+domain+"/node/n1")
}

func TestPlainTextIsTurnedAway(t *testing.T) {
	s := serve(t, nil)
	_, err := join(t, s.dial(t, insecure.NewCredentials()))
	wantCode(t, err, codes.Unavailable)
	waitFor(t, "a line in the log", func() bool {
		return s.log.has("a connection is refused", "address=127.0.0.1:", "it does not talk TLS")
	})
	mustJoin(t, s.as(t, RoleNode, "n1"), "spiffe://"+domain+"/node/n1")
}

// TestHTTP1IsTurnedAway: with a right certificate, too.
func TestHTTP1IsTurnedAway(t *testing.T) {
	s := serve(t, nil)
	for _, protocols := range [][]string{{"http/1.1"}, nil} {
		config := showing(pair(t, issue(t, s.ca, Request{Role: RoleNode, Name: "n1"})))
		config.NextProtos = protocols
		transport := &http.Transport{TLSClientConfig: config, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
		client := http.Client{Transport: transport, Timeout: patience}
		r, err := client.Get("https://" + s.addr + pb.ControllerService_Join_FullMethodName)
		if err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			t.Errorf("protocols %v: got %s %q", protocols, r.Status, body)
		}
		transport.CloseIdleConnections()
	}
	waitFor(t, "a line in the log", func() bool {
		return s.log.has("a connection is refused", "no application protocol") || s.log.has("a connection is refused", "ALPN")
	})
	if len(s.calls()) != 0 {
		t.Error("a call got through")
	}
}

// TestCAWithoutConstraint: that peers are of our trust domain is not left to the
// CA's name constraint.
func TestCAWithoutConstraint(t *testing.T) {
	s := serve(t, nil)
	free := forgeBy(t, nil, nil, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage, c.URIs = true, true, x509.KeyUsageCertSign, nil, nil
	})
	bundle := filepath.Join(s.out, CACertFile)
	put(t, bundle, append(read(t, bundle), pemBlock("CERTIFICATE", free.Certificate[0])...))
	waitFor(t, "the new CA", func() bool { return len(s.gate.o.Source.current.Load().authorities) == 2 })
	key := free.PrivateKey.(*ecdsa.PrivateKey)
	mustJoin(t, s.dial(t, credentials.NewTLS(showing(forgeBy(t, free.Leaf, key, nil)))), "spiffe://"+domain+"/node/n1")
	stranger := forgeBy(t, free.Leaf, key, func(c *x509.Certificate) {
		c.URIs = []*url.URL{spiffeURL("spiffe://other.test/node/n1")}
	})
	_, err := join(t, s.dial(t, credentials.NewTLS(showing(stranger))))
	wantCode(t, err, codes.Unavailable)
	waitFor(t, "a line in the log", func() bool { return s.log.has("spiffe://other.test/node/n1 is not taken") })
}

// TestClientsChooseTheirServer: whoever has no controller's certificate of the
// same CA is no controller, wherever it answers.
func TestClientsChooseTheirServer(t *testing.T) {
	ca := newCA(t)
	client := open(t, issue(t, ca, Request{Role: RoleNode, Name: "n1"}))
	for _, c := range []struct {
		name string
		cert tls.Certificate
		want string // empty: it is taken
	}{
		{"a controller", pair(t, issue(t, ca, Request{Role: RoleController, Name: "c9"})), ""},
		{"a node", pair(t, issue(t, ca, Request{Role: RoleNode, Name: "n2"})), "is not for this use"},
		{"a node that may serve", forge(t, ca, nil), "its role is node, and must be controller"},
		{"an etcd member", forge(t, ca, func(c *x509.Certificate) {
			c.URIs = []*url.URL{spiffeURL("spiffe://" + domain + "/etcd/e1")}
		}), "its role is etcd"},
		{"of another CA", pair(t, issue(t, newCA(t), Request{Role: RoleController, Name: "c1"})), "unknown authority"},
		{"expired", pair(t, issue(t, ca, Request{Role: RoleController, Name: "c1", NotBefore: time.Now().Add(-2 * time.Hour)})), "expired or is not yet valid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := shake(t, client.ClientTLS(RoleController), &tls.Config{Certificates: []tls.Certificate{c.cert}, ClientAuth: tls.RequestClientCert})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestDenylist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "denylist")
	put(t, path, []byte("# nobody yet\n"))
	var list *Denylist
	s := serve(t, func(o *GateOptions) {
		var err error
		if list, err = OpenDenylist(path, o.Log); err != nil {
			t.Fatal(err)
		}
		o.Denylist = list
	})
	defer list.Close()
	bad, good := s.as(t, RoleNode, "bad"), s.as(t, RoleNode, "good")
	reissued := issue(t, s.ca, Request{Role: RoleNode, Name: "good"})
	mustJoin(t, bad, "spiffe://"+domain+"/node/bad")
	mustJoin(t, good, "spiffe://"+domain+"/node/good")
	stream := follow(t, bad)
	echo(t, stream, 1)

	// A live connection ends, too.
	put(t, path, []byte("spiffe://"+domain+"/node/bad # stolen\n"))
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream of one who is shut out goes on")
	}
	_, err := join(t, bad)
	wantCode(t, err, codes.Unavailable)
	waitFor(t, "a line in the log", func() bool { return s.log.has("a connection is refused", "/node/bad", "denylist") })
	mustJoin(t, good, "spiffe://"+domain+"/node/good")

	// One certificate, in the way that openssl writes its number.
	number := strings.ToUpper(s.calls()[len(s.calls())-1].Serial)
	put(t, path, []byte("spiffe://"+domain+"/node/bad\n0"+number[:1]+":"+number[1:]+"\n"))
	waitFor(t, "the end of the connection", func() bool { _, err := join(t, good); return err != nil })
	mustJoin(t, s.dial(t, credentials.NewTLS(showing(pair(t, reissued)))), "spiffe://"+domain+"/node/good")

	// Nor does anything happen because of other files beside it.
	before := strings.Count(s.log.String(), "the denylist is in force")
	put(t, path+".log", []byte("x"))
	time.Sleep(5 * filewatch.Settle)
	if n := strings.Count(s.log.String(), "the denylist is in force"); n != before {
		t.Errorf("%d lines in the log for one change elsewhere", n-before)
	}

	// What is wrong changes nothing.
	put(t, path, []byte("node/bad\n"))
	waitFor(t, "the problem", func() bool { return list.Err() != nil })
	if want := `denylist, line 1: "node/bad" is neither`; !strings.HasPrefix(list.Err().Error(), want) {
		t.Errorf("got %v, want %s", list.Err(), want)
	}
	_, err = join(t, bad)
	wantCode(t, err, codes.Unavailable)

	put(t, path, nil)
	waitFor(t, "the end of the problem", func() bool { return list.Err() == nil })
	waitFor(t, "the way back", func() bool { _, err := join(t, bad); return err == nil })
}

func TestDenylistMustBeThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "denylist")
	if _, err := OpenDenylist(path, discard()); err == nil || !strings.Contains(err.Error(), "put the file there") {
		t.Errorf("missing: %v", err)
	}
	for _, bad := range []string{"xyz", "-1f", "0", "spiffe://A/b", "spiffe://a/b c", strings.Repeat("1", 1<<17)} {
		put(t, path, []byte(bad))
		if d, err := OpenDenylist(path, discard()); err == nil {
			d.Close()
			t.Errorf("%.20q is taken", bad)
		}
	}
	put(t, path, []byte(" 0A:bc #x\n\nspiffe://a/b\n"))
	d, err := OpenDenylist(path, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !d.denies(Identity{}, "abc") || d.denies(Identity{}, "ab") || d.denies(Identity{}, "") {
		t.Error("the serial number abc is to be denied, and nothing else")
	}
}

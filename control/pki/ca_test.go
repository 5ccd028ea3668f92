package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func leafOf(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(read(t, path))
	if block == nil {
		t.Fatalf("%s is no PEM", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
		t.Errorf("%s: %v, want mode %v", path, info.Mode(), want)
	}
}

func TestInitCA(t *testing.T) {
	dir := newCA(t)
	wantMode(t, dir, 0o700)
	wantMode(t, filepath.Join(dir, caKeyFile), 0o600)
	c := leafOf(t, filepath.Join(dir, CACertFile))
	if !c.IsCA || !c.MaxPathLenZero || c.MaxPathLen != 0 || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("got %+v", c)
	}
	if !c.PermittedDNSDomainsCritical || !slices.Equal(c.PermittedURIDomains, []string{domain}) {
		t.Errorf("name constraints %v, critical %v", c.PermittedURIDomains, c.PermittedDNSDomainsCritical)
	}
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve.Params().Name != "P-256" {
		t.Errorf("the key is %T", c.PublicKey)
	}
	before := read(t, filepath.Join(dir, caKeyFile))
	for _, lost := range []string{"", CACertFile} { // what is left is not taken for nothing
		if lost != "" {
			if err := os.Remove(filepath.Join(dir, lost)); err != nil {
				t.Fatal(err)
			}
		}
		if err := InitCA(dir, domain, time.Hour); err == nil || !strings.Contains(err.Error(), "holds a CA already") {
			t.Errorf("without %q: %v", lost, err)
		}
	}
	if !bytes.Equal(before, read(t, filepath.Join(dir, caKeyFile))) {
		t.Error("the key was replaced")
	}
}

func TestInitCARefuses(t *testing.T) {
	for name, want := range map[string]string{
		"":                              "trust domain: ",
		"Ringway.test":                  "trust domain: ",
		"spiffe://ringway.test":         "trust domain: ",
		"a b":                           "trust domain: ",
		"a..b":                          "is no host name",
		".a":                            "is no host name",
		"192.0.2.1":                     "is no host name",
		strings.Repeat("a", 64):         "is no host name",
		strings.Repeat("abcdefgh.", 30): "is no host name",
	} {
		dir := filepath.Join(t.TempDir(), "ca")
		if err := InitCA(dir, name, time.Hour); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: there is a directory", name)
		}
	}
	if err := InitCA(filepath.Join(t.TempDir(), "ca"), domain, time.Minute); err == nil || !strings.HasPrefix(err.Error(), "ttl: ") {
		t.Errorf("got %v", err)
	}
}

// TestTrustDomains: what InitCA takes does for certificates, too.
func TestTrustDomains(t *testing.T) {
	for _, name := range []string{"lab", "ringway.test", "a_b.c-d", "1.2", "0"} {
		dir := filepath.Join(t.TempDir(), "ca")
		if err := InitCA(dir, name, 48*time.Hour); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out := filepath.Join(t.TempDir(), "out")
		if _, err := Issue(dir, out, Request{Role: RoleNode, Name: "n1"}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		k, err := load(FilesIn(out), false, time.Now())
		if err != nil || k.id.String() != "spiffe://"+name+"/node/n1" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNameConstraint: whoever has the key of a CA is nobody in other trust
// domains.
func TestNameConstraint(t *testing.T) {
	dir := newCA(t)
	ca := leafOf(t, filepath.Join(dir, CACertFile))
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for id, want := range map[string]bool{"spiffe://" + domain + "/node/n1": true, "spiffe://other.test/node/n1": false} {
		leaf := forge(t, dir, func(c *x509.Certificate) { c.URIs = []*url.URL{spiffeURL(id)} }).Leaf
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if (err == nil) != want {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestIssue(t *testing.T) {
	dir := newCA(t)
	client, both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	address := netip.MustParseAddr("192.0.2.7")
	serials := map[string]bool{}
	for _, c := range []struct {
		request Request
		usages  []x509.ExtKeyUsage
	}{
		{Request{Role: RoleNode, Name: "node-1.example"}, client},
		{Request{Role: RoleOperator, Name: "alice"}, client},
		{Request{Role: RoleViewer, Name: "bob"}, client},
		{Request{Role: RoleController, Name: "c1"}, both},
		{Request{Role: RoleController, Name: "c2", DNS: []string{"c2.example"}}, both},
		{Request{Role: RoleEtcd, Name: "e1", DNS: []string{"localhost"}, Addresses: []netip.Addr{address}}, both},
	} {
		out := filepath.Join(t.TempDir(), "made", "out")
		made, err := Issue(dir, out, c.request)
		if err != nil {
			t.Errorf("%+v: %v", c.request, err)
			continue
		}
		f := FilesIn(out)
		for _, path := range []string{f.CA, f.Cert, f.Key} {
			wantMode(t, path, 0o600)
		}
		wantMode(t, out, 0o700)
		leaf := leafOf(t, f.Cert)
		id := "spiffe://" + domain + "/" + string(c.request.Role) + "/" + c.request.Name
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != id || made.Identity.String() != id {
			t.Errorf("%v is %v, want %s", made, leaf.URIs, id)
		}
		if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, c.usages) {
			t.Errorf("%s: CA %v, usage %v, %v", id, leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
		}
		if !slices.Equal(leaf.DNSNames, c.request.DNS) || len(leaf.IPAddresses) != len(c.request.Addresses) {
			t.Errorf("%s: %v, %v", id, leaf.DNSNames, leaf.IPAddresses)
		}
		if back, end := time.Since(leaf.NotBefore), time.Until(leaf.NotAfter); back < 59*time.Second || back > 2*time.Minute || end > DefaultTTL || end < DefaultTTL-time.Minute {
			t.Errorf("%s: from %v to %v", id, leaf.NotBefore, leaf.NotAfter)
		}
		if serials[made.Serial] || leaf.SerialNumber.BitLen() < 64 || leaf.SerialNumber.Cmp(big.NewInt(0)) <= 0 || made.Serial != leaf.SerialNumber.Text(16) {
			t.Errorf("%s: serial %s", id, made.Serial)
		}
		serials[made.Serial] = true
		verifiedByOpenSSL(t, f)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*-*")); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

// verifiedByOpenSSL has others look at a certificate than those who made it.
func verifiedByOpenSSL(t *testing.T, f Files) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		return // TestIssue has looked with crypto/x509
	}
	out, err := exec.Command(openssl, "verify", "-x509_strict", "-CAfile", f.CA, "-purpose", "sslclient", f.Cert).CombinedOutput()
	if err != nil {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

func TestIssueRefuses(t *testing.T) {
	dir := newCA(t)
	address := []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	for _, c := range []struct {
		request Request
		want    string
	}{
		{Request{Role: "root", Name: "x"}, `role: "root" is not known: write node or`},
		{Request{Role: RoleNode}, `name: "" is no name`},
		{Request{Role: RoleNode, Name: "a/b"}, `name: "a/b" is no name`},
		{Request{Role: RoleNode, Name: "N1"}, `name: "N1" is no name`},
		{Request{Role: RoleNode, Name: "../x"}, `name: "../x" is no name`},
		{Request{Role: RoleNode, Name: strings.Repeat("a", 254)}, "is no name"},
		{Request{Role: RoleNode, Name: "n1", TTL: time.Second}, "ttl: 1s is too short"},
		{Request{Role: RoleNode, Name: "n1", TTL: 49 * time.Hour}, "ttl: the certificate would outlive its CA"},
		{Request{Role: RoleNode, Name: "n1", Addresses: address}, "ip: a node serves nobody"},
		{Request{Role: RoleEtcd, Name: "e1"}, "ip: a member of etcd is known by its host"},
		{Request{Role: RoleEtcd, Name: "e1", DNS: []string{"*"}}, `dns: "*" is no host name`},
		{Request{Role: RoleEtcd, Name: "e1", Addresses: []netip.Addr{{}}}, "is no address of a machine"},
	} {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := Issue(dir, out, c.request); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %s", c.request, err, c.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%+v: something was written", c.request)
		}
	}
	if _, err := Issue(t.TempDir(), t.TempDir(), Request{Role: RoleNode, Name: "n1"}); err == nil || !strings.Contains(err.Error(), "make one by ringway pki init") {
		t.Errorf("without a CA: %v", err)
	}
	out := t.TempDir()
	put(t, filepath.Join(out, CACertFile), []byte("precious"))
	if _, err := Issue(dir, out, Request{Role: RoleNode, Name: "n1"}); err == nil || !strings.Contains(err.Error(), "repair or remove the file") {
		t.Errorf("over something else: %v", err)
	}
	if got := read(t, filepath.Join(out, CACertFile)); string(got) != "precious" {
		t.Errorf("it is %q now", got)
	}
}

// TestIssueKeepsOtherCAs but neither itself twice nor those that have expired.
func TestIssueKeepsOtherCAs(t *testing.T) {
	first, second, out := newCA(t), newCA(t), t.TempDir()
	expired := forgeBy(t, nil, nil, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.NotAfter = true, true, x509.KeyUsageCertSign, time.Now().Add(-time.Second)
	})
	put(t, filepath.Join(out, CACertFile), pemBlock("CERTIFICATE", expired.Certificate[0]))
	for _, ca := range []string{first, second, second, first} {
		issueTo(t, ca, out, Request{Role: RoleNode, Name: "n1"})
	}
	cas, err := parseCAs(read(t, filepath.Join(out, CACertFile)))
	want := []*x509.Certificate{leafOf(t, filepath.Join(first, CACertFile)), leafOf(t, filepath.Join(second, CACertFile))}
	if err != nil || !slices.EqualFunc(cas, want, (*x509.Certificate).Equal) {
		t.Errorf("%d CAs, %v", len(cas), err)
	}
}

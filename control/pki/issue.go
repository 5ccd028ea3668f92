package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ringway/internal/wholefile"
)

// Names of the files that Issue writes, besides CACertFile.
const (
	CertFile = "tls.crt"
	KeyFile  = "tls.key"
)

// DefaultTTL is how long a certificate lives unless told otherwise.
const DefaultTTL = 24 * time.Hour

// Request is what a certificate is to say.
type Request struct {
	Role Role
	Name string        // lower-case letters, digits, - and .
	TTL  time.Duration // 0: DefaultTTL
	// Where a server of this certificate is reached; members of etcd need them,
	// since etcd's own clients look for the host there.
	Addresses []netip.Addr
	DNS       []string
	// NotBefore is when it begins to be valid. Zero: a minute ago.
	NotBefore time.Time
}

// Issued is a certificate that was made.
type Issued struct {
	Identity Identity
	Serial   string // hexadecimal, for a denylist
	NotAfter time.Time
}

// FilesIn are the files that Issue writes to out.
func FilesIn(out string) Files {
	return Files{CA: filepath.Join(out, CACertFile), Cert: filepath.Join(out, CertFile), Key: filepath.Join(out, KeyFile)}
}

// Issue makes a key and a certificate of the CA in dir, and writes tls.key,
// tls.crt and ca.crt to out (made with mode 0700; the files have 0600). What is
// there is replaced, each file in one step and the key before the certificate;
// ca.crt keeps the valid CAs that it had, so that one CA can follow another.
func Issue(dir, out string, r Request) (Issued, error) {
	ca, err := openCA(dir)
	if err != nil {
		return Issued{}, err
	}
	id := Identity{TrustDomain: ca.trustDomain, Role: r.Role, Name: r.Name}
	template, err := ca.template(id, r)
	if err != nil {
		return Issued{}, err
	}
	key, err := newKey()
	if err != nil {
		return Issued{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		return Issued{}, fmt.Errorf("make the certificate of %s: %w", id, err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return Issued{}, fmt.Errorf("read the certificate of %s again: %w", id, err)
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return Issued{}, err
	}
	if err := writeIssued(FilesIn(out), ca.Leaf, encoded, pemBlock("CERTIFICATE", der)); err != nil {
		return Issued{}, err
	}
	return Issued{Identity: id, Serial: serial(made), NotAfter: made.NotAfter}, nil
}

// template is the certificate before it has a key and a serial number, which
// x509.CreateCertificate draws at random.
func (a authority) template(id Identity, r Request) (*x509.Certificate, error) {
	if err := id.check(); err != nil {
		return nil, err
	}
	spiffe, err := spiffeid.FromString(id.String())
	if err != nil {
		return nil, fmt.Errorf("name: %q: %w", id.Name, err)
	}
	begin := r.NotBefore
	if begin.IsZero() {
		begin = time.Now().Add(-backdate)
	}
	ttl := r.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < time.Minute {
		return nil, fmt.Errorf("ttl: %s is too short: give a minute or more", ttl)
	}
	end := begin.Add(ttl)
	if r.NotBefore.IsZero() {
		end = end.Add(backdate) // ttl counts from now
	}
	if end.After(a.Leaf.NotAfter) {
		return nil, fmt.Errorf("ttl: the certificate would outlive its CA, which ends %s: choose less, or make a new CA", a.Leaf.NotAfter.Format(time.RFC3339))
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: string(id.Role) + "/" + id.Name},
		NotBefore:             begin,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usages(id.Role),
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{spiffe.URL()},
	}
	return t, hosts(t, r)
}

// usages: only those that serve can be taken for a server.
func usages(role Role) []x509.ExtKeyUsage {
	if role == RoleController || role == RoleEtcd {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

func hosts(t *x509.Certificate, r Request) error {
	if r.Role == RoleEtcd && len(r.Addresses)+len(r.DNS) == 0 {
		return errors.New("ip: a member of etcd is known by its host: give its address or DNS name")
	}
	if r.Role != RoleEtcd && r.Role != RoleController && len(r.Addresses)+len(r.DNS) > 0 {
		return fmt.Errorf("ip: a %s serves nobody: leave addresses and DNS names out", r.Role)
	}
	for _, a := range r.Addresses {
		if !a.IsValid() || a.IsUnspecified() || a.Zone() != "" {
			return fmt.Errorf("ip: %s is no address of a machine: write it as in 192.168.0.10", a)
		}
		t.IPAddresses = append(t.IPAddresses, net.IP(a.AsSlice()))
	}
	for _, name := range r.DNS {
		if len(name) > maxName || !namePattern.MatchString(name) || strings.Contains(name, "..") {
			return fmt.Errorf("dns: %q is no host name: write it as in etcd1.example", name)
		}
		t.DNSNames = append(t.DNSNames, name)
	}
	return nil
}

func writeIssued(f Files, ca *x509.Certificate, key, cert []byte) error {
	if err := os.MkdirAll(filepath.Dir(f.Key), 0o700); err != nil {
		return fmt.Errorf("make the directory of the certificate: %w", err)
	}
	bundle, err := extendBundle(f.CA, ca)
	if err != nil {
		return err
	}
	// The CA first: a certificate whose CA is not known is not taken.
	if err := wholefile.Replace(f.CA, bundle, keyMode); err != nil {
		return err
	}
	if err := wholefile.Replace(f.Key, key, keyMode); err != nil {
		return err
	}
	return wholefile.Replace(f.Cert, cert, keyMode)
}

// extendBundle is the bundle at path without its expired CAs and with ca.
func extendBundle(path string, ca *x509.Certificate) ([]byte, error) {
	var had []*x509.Certificate
	doc, err := os.ReadFile(path)
	if err == nil {
		had, err = parseCAs(doc)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("out: read the CAs in %s: %w: repair or remove the file", path, err)
	}
	out := bytes.NewBuffer(pemBlock("CERTIFICATE", ca.Raw))
	for _, c := range had {
		if !c.Equal(ca) && time.Now().Before(c.NotAfter) {
			out.Write(pemBlock("CERTIFICATE", c.Raw))
		}
	}
	return out.Bytes(), nil
}

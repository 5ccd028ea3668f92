package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ringway/internal/wholefile"
)

// Names of the files of a CA's directory.
const (
	CACertFile = "ca.crt"
	caKeyFile  = "ca.key"
)

// keyMode is of all files, keys and certificates alike.
const keyMode = 0o600

// DefaultCATTL is how long a CA lives unless told otherwise.
const DefaultCATTL = 10 * 365 * 24 * time.Hour

// backdate is how much earlier than its making a certificate begins to be
// valid: the clocks of machines differ.
const backdate = time.Minute

// InitCA makes a CA for a trust domain in dir (made with mode 0700): ca.crt, for
// everybody, and ca.key (ECDSA P-256, mode 0600), which never leaves dir. It
// replaces nothing. ttl is how long the CA lives, at least an hour.
func InitCA(dir, trustDomain string, ttl time.Duration) error {
	if err := checkTrustDomain(trustDomain); err != nil {
		return err
	}
	if ttl < time.Hour {
		return fmt.Errorf("ttl: %s is too short for a CA: give an hour or more", ttl)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the CA: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: trustDomain + " CA"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ttl),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs no other CA
		// A stolen key can make no identities of another trust domain (RFC 5280
		// 4.2.1.10). Host names and addresses stay free: members of etcd have some.
		PermittedDNSDomainsCritical: true,
		PermittedURIDomains:         []string{trustDomain},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make the CA's certificate: %w", err)
	}
	return writeCA(dir, der, key)
}

func writeCA(dir string, der []byte, key *ecdsa.PrivateKey) error {
	encoded, err := encodeKey(key)
	if err != nil {
		return err
	}
	certPath := filepath.Join(dir, CACertFile)
	if _, err := os.Lstat(certPath); err == nil {
		return errCAExists(dir)
	}
	err = wholefile.Create(filepath.Join(dir, caKeyFile), encoded, keyMode)
	if errors.Is(err, fs.ErrExist) {
		return errCAExists(dir)
	}
	if err != nil {
		return err
	}
	return wholefile.Create(certPath, pemBlock("CERTIFICATE", der), keyMode)
}

func errCAExists(dir string) error {
	return fmt.Errorf("dir: %s holds a CA already: name another directory, or remove this one if nothing trusts it", dir)
}

// checkTrustDomain takes what is both a SPIFFE trust domain and a host name,
// which the name constraint has to be.
func checkTrustDomain(s string) error {
	const remedy = "write it as a host name in lower case, as in ringway.example"
	if _, err := spiffeid.TrustDomainFromString(s); err != nil || strings.Contains(s, "/") {
		return fmt.Errorf("trust domain: %q is none: %s", s, remedy)
	}
	if net.ParseIP(s) != nil || len(s) > maxName {
		return fmt.Errorf("trust domain: %q is no host name: %s", s, remedy)
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("trust domain: %q is no host name: %s", s, remedy)
		}
	}
	return nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pemBlock("PRIVATE KEY", der), nil
}

// authority is a CA that can sign.
type authority struct {
	tls.Certificate
	trustDomain string
}

// openCA reads what InitCA wrote.
func openCA(dir string) (authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CACertFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return authority{}, fmt.Errorf("dir: read the CA in %s: %w: make one by ringway pki init", dir, err)
	}
	if !pair.Leaf.IsCA || len(pair.Leaf.PermittedURIDomains) != 1 {
		return authority{}, fmt.Errorf("dir: the certificate in %s is not that of a CA of ours: make one by ringway pki init", dir)
	}
	return authority{pair, pair.Leaf.PermittedURIDomains[0]}, nil
}

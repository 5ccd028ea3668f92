package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Files are the paths of a certificate (PEM, the leaf first), its key, and the
// CAs that peers' certificates may be signed by.
type Files struct{ CA, Cert, Key string }

// keySet is what Files held when all three fitted together. It is not changed.
type keySet struct {
	pair        tls.Certificate
	authorities []*x509.Certificate
	pool        *x509.CertPool
	// Of a certificate with an identity; peers have to be of its trust domain.
	id     Identity
	bundle *x509bundle.Bundle
}

// load reads files and checks that they are of use at now. hostNames: a
// certificate without an identity is, too.
func load(f Files, hostNames bool, now time.Time) (*keySet, error) {
	cas, err := loadCAs(f.CA, now)
	if err != nil {
		return nil, err
	}
	k := &keySet{authorities: cas, pool: x509.NewCertPool()}
	for _, c := range cas {
		k.pool.AddCert(c)
	}
	if k.pair, err = tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		return nil, fmt.Errorf("read the certificate %s with its key: %w: put a pair there", f.Cert, err)
	}
	leaf := k.pair.Leaf
	if err := checkValidity(leaf, now); err != nil {
		return nil, fmt.Errorf("the certificate %s %w", f.Cert, err)
	}
	if err := k.checkChain(now); err != nil {
		return nil, fmt.Errorf("the certificate %s is not signed by a CA in %s: %w: put its CA there", f.Cert, f.CA, err)
	}
	if hostNames {
		return k, nil
	}
	return k, k.identify(f.Cert)
}

// identify finds the identity in the certificate.
func (k *keySet) identify(path string) error {
	id, err := identityOf(k.pair.Leaf)
	if err != nil {
		return fmt.Errorf("the certificate %s: %w: make one by ringway pki issue", path, err)
	}
	domain, err := spiffeid.TrustDomainFromString(id.TrustDomain)
	if err != nil {
		return fmt.Errorf("the certificate %s: %w", path, err)
	}
	k.id, k.bundle = id, x509bundle.FromX509Authorities(domain, k.authorities)
	return nil
}

func (k *keySet) checkChain(now time.Time) error {
	between := x509.NewCertPool()
	for _, der := range k.pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(c)
	}
	_, err := k.pair.Leaf.Verify(x509.VerifyOptions{
		Roots: k.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

func (k *keySet) equal(other *keySet) bool {
	return k.pair.Leaf.Equal(other.pair.Leaf) && slices.EqualFunc(k.authorities, other.authorities, (*x509.Certificate).Equal)
}

// loadCAs drops what has expired and is kept for an overlap only.
func loadCAs(path string, now time.Time) ([]*x509.Certificate, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the CAs: %w", err)
	}
	all, err := parseCAs(doc)
	if err != nil {
		return nil, fmt.Errorf("read the CAs in %s: %w", path, err)
	}
	var valid []*x509.Certificate
	for _, c := range all {
		if err = checkValidity(c, now); err == nil {
			valid = append(valid, c)
		}
	}
	if len(valid) == 0 {
		return nil, fmt.Errorf("the CA in %s %w", path, err)
	}
	return valid, nil
}

// parseCAs takes certificates of CAs only: any other, as a root, would vouch for
// itself.
func parseCAs(doc []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := bytes.TrimSpace(doc); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("there is something else than PEM: put nothing but certificates there")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("there is a %s: put nothing but certificates there", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !c.IsCA || !c.BasicConstraintsValid {
			return nil, fmt.Errorf("the certificate of %q is not that of a CA: leave it out", c.Subject)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate: put that of a CA there")
	}
	return out, nil
}

func checkValidity(c *x509.Certificate, now time.Time) error {
	if now.Before(c.NotBefore) {
		return fmt.Errorf("is not valid before %s: look at the clock, or wait", c.NotBefore.Format(time.RFC3339))
	}
	if now.After(c.NotAfter) {
		return fmt.Errorf("expired %s: put a new one there", c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// verify finds out who a peer is that showed certs, and that it may use them for
// usage and has one of roles.
func (k *keySet) verify(certs []*x509.Certificate, usage x509.ExtKeyUsage, roles []Role, now time.Time) (Identity, error) {
	id, _, err := x509svid.Verify(certs, k.bundle, x509svid.WithTime(now))
	if err != nil {
		return Identity{}, peerError(id, err)
	}
	// x509svid.Verify takes any usage, and a node's certificate must not do for
	// that of a server.
	if !slices.Contains(certs[0].ExtKeyUsage, usage) {
		return Identity{}, peerError(id, errors.New("its certificate is not for this use (extended key usage)"))
	}
	who, err := parseIdentity(id)
	if err != nil {
		return Identity{}, err
	}
	if !slices.Contains(roles, who.Role) {
		return Identity{}, peerError(id, fmt.Errorf("its role is %s, and must be %s", who.Role, words(roles)))
	}
	return who, nil
}

func peerError(id spiffeid.ID, err error) error {
	if id.IsZero() {
		return fmt.Errorf("the peer is not taken: %w", err)
	}
	return fmt.Errorf("the peer %s is not taken: %w", id, err)
}

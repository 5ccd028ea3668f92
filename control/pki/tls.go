package pki

import (
	"crypto/tls"
	"crypto/x509"
)

// ServerTLS is for a server: TLS 1.3, and clients show a certificate with one of
// roles in the server's trust domain.
func (s *Source) ServerTLS(roles ...Role) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		// That there is a certificate is checked here, which one in
		// VerifyConnection: by identity, not by host name.
		ClientAuth: tls.RequireAnyClientCert,
		// A resumed session would not show the certificate again.
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate() },
		VerifyConnection: func(c tls.ConnectionState) error {
			_, err := s.verify(c, x509.ExtKeyUsageClientAuth, roles)
			return err
		},
	}
}

// ClientTLS is for a client, which takes for its server whoever has role in its
// own trust domain: what counts is what a server is, not by which name or address
// it was found.
func (s *Source) ClientTLS(role Role) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.certificate() },
		// This switches off what looks for the host name; VerifyConnection does all
		// the rest.
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			_, err := s.verify(c, x509.ExtKeyUsageServerAuth, []Role{role})
			return err
		},
	}
}

// HostTLS is for a client of servers that are known by their host name or
// address, as etcd's members are. It trusts the CAs that there are when it is
// called: crypto/tls tells nobody else's verification which address was dialled,
// so its own has to do it, and that cannot be given others later. Certificates of
// the client are followed.
func (s *Source) HostTLS() *tls.Config {
	c := &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              x509.NewCertPool(), // not nil, which were the machine's
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.certificate() },
		Time:                 s.now,
	}
	if k := s.current.Load(); k != nil {
		c.RootCAs = k.pool
	}
	return c
}

func (s *Source) certificate() (*tls.Certificate, error) {
	k := s.current.Load()
	if k == nil {
		return nil, errNoCertificate
	}
	return &k.pair, nil
}

func (s *Source) verify(c tls.ConnectionState, usage x509.ExtKeyUsage, roles []Role) (Identity, error) {
	k := s.current.Load()
	if k == nil || k.bundle == nil {
		return Identity{}, errNoCertificate
	}
	return k.verify(c.PeerCertificates, usage, roles, s.now())
}

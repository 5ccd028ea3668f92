// Package pki is who is who between the machines of a cluster: the certificates
// of small sites, TLS that follows certificate files as they change, and the
// name, in the form of a SPIFFE ID, that a peer's certificate gives it.
package pki

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
)

// Role is what somebody is to the cluster.
type Role string

const (
	RoleNode       Role = "node"       // fetches its own table sets, registers its own pods
	RoleController Role = "controller" // serves nodes and people, is a client of etcd
	RoleOperator   Role = "operator"   // looks at objects and changes them
	RoleViewer     Role = "viewer"     // looks at objects
	RoleEtcd       Role = "etcd"       // a member of an etcd cluster
)

// Roles are all there are.
func Roles() []Role {
	return []Role{RoleNode, RoleController, RoleOperator, RoleViewer, RoleEtcd}
}

// Identity is a name in a trust domain: spiffe://DOMAIN/ROLE/NAME.
type Identity struct {
	TrustDomain string
	Role        Role
	Name        string
}

// String is the SPIFFE ID.
func (i Identity) String() string {
	return fmt.Sprintf("spiffe://%s/%s/%s", i.TrustDomain, i.Role, i.Name)
}

// maxName is what a node's name may have.
const maxName = 253

var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

// check finds out what would be wrong with an identity before it is certified.
func (i Identity) check() error {
	if !slices.Contains(Roles(), i.Role) {
		return fmt.Errorf("role: %q is not known: write %s", i.Role, words(Roles()))
	}
	if len(i.Name) > maxName || !namePattern.MatchString(i.Name) {
		return fmt.Errorf("name: %q is no name: use lower-case letters, digits, - and ., at most %d", i.Name, maxName)
	}
	return nil
}

func words(roles []Role) string {
	var s []string
	for _, r := range roles {
		s = append(s, string(r))
	}
	return strings.Join(s, " or ")
}

// parseIdentity takes a SPIFFE ID apart.
func parseIdentity(id spiffeid.ID) (Identity, error) {
	role, name, _ := strings.Cut(strings.TrimPrefix(id.Path(), "/"), "/")
	i := Identity{TrustDomain: id.TrustDomain().Name(), Role: Role(role), Name: name}
	if err := i.check(); err != nil {
		return Identity{}, fmt.Errorf("%s is no identity of a cluster: %w", id, err)
	}
	return i, nil
}

// identityOf reads a certificate's identity.
func identityOf(c *x509.Certificate) (Identity, error) {
	id, err := x509svid.IDFromCert(c)
	if err != nil {
		return Identity{}, err
	}
	return parseIdentity(id)
}

// Peer is the authenticated other end of a connection, as its AuthInfo.
type Peer struct {
	credentials.TLSInfo
	Identity Identity
	Serial   string // of the certificate, hexadecimal
	Address  net.Addr
}

// AuthType names the way in which the peer was authenticated.
func (Peer) AuthType() string { return "spiffe" }

// Key is the identity.
func (p Peer) Key() string { return p.Identity.String() }

// Describe is what a log says of the peer.
func (p Peer) Describe() []slog.Attr {
	return []slog.Attr{
		slog.String("id", p.Identity.String()),
		slog.String("serial", p.Serial),
		slog.String("address", p.Address.String()),
	}
}

// PeerIdentity is who makes the call that ctx is of. Its error is
// UNAUTHENTICATED.
func PeerIdentity(ctx context.Context) (Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Identity{}, grpcstatus.Error(codes.Unauthenticated, "the caller is not known: connect with a client certificate")
	}
	who, ok := p.AuthInfo.(Peer)
	if !ok {
		return Identity{}, grpcstatus.Error(codes.Unauthenticated, "the caller has no certificate: connect by TLS with a client certificate")
	}
	return who.Identity, nil
}

// serial is a certificate's serial number as people write it.
func serial(c *x509.Certificate) string { return hexSerial(c.SerialNumber) }

func hexSerial(n *big.Int) string { return fmt.Sprintf("%x", n) }

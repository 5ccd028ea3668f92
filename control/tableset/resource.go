// Package tableset cuts a table set into resources, so that a change of one object
// travels as one resource, and puts it together again.
package tableset

import (
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Keys of resources. A set has exactly one settings resource.
const (
	KeySettings   = "settings"   // a TableSet with routing, vxlan, mss_clamp and policy.mode, policy.police_host
	KeyMasquerade = "masquerade" // a Masquerade
)

// KeyNode is of a Node, by name.
func KeyNode(name string) string { return "node/" + name }

// KeyService is of a Service.
func KeyService(namespace, name string) string { return "service/" + namespace + "/" + name }

// KeyRedirect is of a Redirect.
func KeyRedirect(namespace, name string) string { return "redirect/" + namespace + "/" + name }

// KeyIdentity is of an Identity.
func KeyIdentity(id uint32) string { return fmt.Sprintf("identity/%d", id) }

// KeyEndpoints is of a NodeEndpoints, by node.
func KeyEndpoints(node string) string { return "endpoints/" + node }

// KeyPolicy is of an IdentityPolicy. Only nodes with endpoints of the identity get
// it.
func KeyPolicy(identity uint32) string { return fmt.Sprintf("policy/%d", identity) }

// Digest of a resource, or of a set of them. It finds what was lost or mixed up,
// and is no defence against somebody who wants two sets to look the same: the
// connection is.
type Digest [16]byte

// Resource is one entry of a table set. It is immutable.
type Resource struct {
	Key    string
	Value  []byte // the encoded message
	Digest Digest // of key and value
}

// New encodes m, the same bytes for the same content.
func New(key string, m proto.Message) (Resource, error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return Resource{}, fmt.Errorf("encode %s: %w", key, err)
	}
	return Encoded(key, value), nil
}

// Encoded is the resource of a value that is encoded already. It keeps value.
func Encoded(key string, value []byte) Resource {
	h := sha256.New()
	h.Write([]byte(key))
	h.Write([]byte{0}) // no key has one
	h.Write(value)
	return Resource{Key: key, Value: value, Digest: Digest(h.Sum(nil)[:len(Digest{})])}
}

package object

import (
	"crypto/sha256"

	"ringway/control/store"
)

// Index is for store.Options: it names what has to be found without a look at
// everything else.
func Index(item store.Item) []string {
	switch o := item.Object.(type) {
	case *Endpoint:
		return []string{OnNode(o.Spec.Node), AtAddress(o.Spec.Address), Alike(o.Identity())}
	case *Identity:
		return []string{IdentityLike(*o)}
	}
	return nil
}

// OnNode is what the endpoints of a node are indexed by.
func OnNode(node string) string { return "node/" + node }

// AtAddress is what the endpoint with an address is indexed by.
func AtAddress(address string) string { return "address/" + address }

// Alike is what endpoints of an identity, whatever its id, are indexed by. It is a
// digest: whoever finds something compares it.
func Alike(i Identity) string { return "alike/" + i.digest() }

// IdentityLike is what the identity with that content, whatever its id, is indexed
// by. It is a digest, too.
func IdentityLike(i Identity) string { return "identity/" + i.digest() }

func (i Identity) digest() string {
	sum := sha256.Sum256([]byte(i.Content()))
	return string(sum[:16])
}

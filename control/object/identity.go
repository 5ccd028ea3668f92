package object

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ringway/control/store"
)

// MinIdentity is the lowest id of an identity; those below mean something else.
const MinIdentity = 256

// Identity is what endpoints with the same namespace, labels and named ports have in
// common. People do not apply it: it comes with its first endpoint and goes with the
// last.
type Identity struct {
	ID        uint32            `json:"id"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels,omitempty"`
	Ports     []NamedPort       `json:"ports,omitempty"`
}

// Counter is where numbers or addresses were handed out last.
type Counter string

// IdentityKey is where an identity is kept.
func IdentityKey(id uint32) store.Key {
	return store.Key{Kind: KindIdentity, Name: strconv.FormatUint(uint64(id), 10)}
}

// Identity is that of e, without an id. In which order ports were written makes no
// difference.
func (e *Endpoint) Identity() Identity {
	ports := slices.SortedFunc(slices.Values(e.Spec.Ports), func(a, b NamedPort) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Protocol, b.Protocol))
	})
	return Identity{Namespace: e.Namespace, Labels: e.Spec.Labels, Ports: ports}
}

// Content is the same for identities that differ in nothing but their id.
func (i Identity) Content() string {
	i.ID = 0
	out, _ := json.Marshal(i) // strings and numbers always can be
	return string(out)
}

// Canonical is i as it is kept.
func (i Identity) Canonical() ([]byte, error) {
	out, err := encode(i)
	if err != nil {
		return nil, fmt.Errorf("encode identity %d: %w", i.ID, err)
	}
	return out, nil
}

func decodeIdentity(k store.Key, value []byte) (*Identity, error) {
	i := &Identity{}
	if err := json.Unmarshal(value, i); err != nil {
		return nil, fmt.Errorf("decode what is kept of %s: %w", k, err)
	}
	if IdentityKey(i.ID) != k {
		return nil, fmt.Errorf("decode what is kept of %s: it is %d", k, i.ID)
	}
	return i, nil
}

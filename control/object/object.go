// Package object holds the kinds of objects that people apply to say how a cluster
// is to be: how they are written, what may be in them, and what may be beside them.
package object

import (
	"strconv"

	"ringway/control/store"
)

// Object is a Node, Pool, Namespace, Endpoint, Service, LocalRedirectPolicy,
// NetworkPolicy, Masquerade or RoutingConfig. What Decode or DecodeStored gave is
// not to be modified once others may have it.
type Object interface {
	Metadata() *Meta
	Kind() *Kind
	// check reports what is wrong with the object for itself.
	check(ps *problems)
	spec() any // nil: the kind has none
}

// Meta is metadata.
type Meta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"` // empty exactly if the kind has none
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// ResourceVersion is the revision that the writer has seen, in decimal; empty:
	// whatever it is.
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

// Metadata is m: what embeds it has it.
func (m *Meta) Metadata() *Meta { return m }

// Revision is the one that o's writer has seen; false: whatever it is.
func Revision(o Object) (uint64, bool) {
	n, err := strconv.ParseUint(o.Metadata().ResourceVersion, 10, 64)
	return n, err == nil
}

// Key is where o is kept.
func Key(o Object) store.Key {
	m := o.Metadata()
	return store.Key{Kind: o.Kind().Name, Namespace: m.Namespace, Name: m.Name}
}

package object

import (
	"reflect"
	"strings"

	"ringway/control"
)

// Names of kinds in keys of the store. Those of objects are also the kinds that
// people write, except for KindRedirect, which is Cilium's.
const (
	KindNode          = "Node"
	KindPool          = "Pool"
	KindNamespace     = "Namespace"
	KindEndpoint      = "Endpoint"
	KindService       = "Service"
	KindRedirect      = "LocalRedirectPolicy"
	KindNetworkPolicy = "NetworkPolicy"
	KindMasquerade    = "Masquerade"
	KindRoutingConfig = "RoutingConfig"

	KindIdentity = "Identity" // of endpoints; nobody applies one
	KindCounter  = "Counter"  // where numbers and addresses were handed out last
)

// Singleton is the name of the one Masquerade and the one RoutingConfig.
const Singleton = "cluster"

const (
	ownVersion   = "ringway.io/v1"
	redirectKind = "CiliumLocalRedirectPolicy"
)

// Kind is one kind of objects.
type Kind struct {
	Name       string // in keys
	Written    string // in documents, under kind
	APIVersion string
	Plural     string   // in commands
	Short      []string // in commands
	Namespaced bool

	annotations []string // of ours that it may have
	shape       *control.Shape
	make        func() Object
}

// written is the shape of a document. What is of type any is what servers add, and
// is passed over.
type written[S any] struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Metadata   writtenMeta `json:"metadata"`
	Spec       S           `json:"spec"`
	Status     any         `json:"status"`
}

type writtenMeta struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	ResourceVersion string            `json:"resourceVersion"`

	GenerateName               any `json:"generateName"` // refused in other words
	UID                        any `json:"uid"`
	Generation                 any `json:"generation"`
	CreationTimestamp          any `json:"creationTimestamp"`
	DeletionTimestamp          any `json:"deletionTimestamp"`
	DeletionGracePeriodSeconds any `json:"deletionGracePeriodSeconds"`
	ManagedFields              any `json:"managedFields"`
	OwnerReferences            any `json:"ownerReferences"`
	Finalizers                 any `json:"finalizers"`
	SelfLink                   any `json:"selfLink"`
}

func shapeOf[S any]() *control.Shape { return control.NewShape(reflect.TypeFor[written[S]]()) }

// kinds is in the order in which objects need each other.
var kinds = []*Kind{&routingConfigKind, &poolKind, &nodeKind, &masqueradeKind, &namespaceKind, &endpointKind, &serviceKind, &redirectPolicyKind, &networkPolicyKind}

// Kinds is all kinds, each before those that need it.
func Kinds() []*Kind { return append([]*Kind(nil), kinds...) }

// KindByName finds a kind by any of its names, without case: that in keys, that in
// documents, the plural and the short ones.
func KindByName(name string) (*Kind, bool) {
	for _, k := range kinds {
		for _, n := range append([]string{k.Name, k.Written, k.Plural}, k.Short...) {
			if strings.EqualFold(n, name) {
				return k, true
			}
		}
	}
	return nil, false
}

// kindWritten is nil for an unknown one.
func kindWritten(name string) *Kind {
	for _, k := range kinds {
		if k.Written == name {
			return k
		}
	}
	return nil
}

func kindNames() string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Written
	}
	return strings.Join(names, ", ")
}

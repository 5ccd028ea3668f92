package compile

import (
	"k8s.io/apimachinery/pkg/labels"

	"ringway/control/object"
)

// labelsOf is the labels of a namespace; one that nobody has described has only its
// name.
func (s *state) labelsOf(namespace string) labels.Set {
	if set, ok := s.namespaces.get(namespace); ok {
		return set
	}
	return labels.Set{object.NamespaceNameLabel: namespace}
}

func (r *round) putNamespace(namespace string, set labels.Set) {
	r.relabelled[namespace] = true
	r.namespaces.put(namespace, set)
}

func (r *round) deleteNamespace(namespace string) {
	r.relabelled[namespace] = true
	r.namespaces.delete(namespace)
}

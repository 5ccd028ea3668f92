package object

var namespaceKind = Kind{
	Name: KindNamespace, Written: KindNamespace, APIVersion: "v1", Plural: "namespaces", Short: []string{"ns"},
	shape: shapeOf[any](),
	make:  func() Object { return &Namespace{} },
}

// NamespaceNameLabel is a label that each namespace has: its name.
const NamespaceNameLabel = "kubernetes.io/metadata.name"

// Namespace gives labels to a namespace, which is there without one, too.
type Namespace struct {
	Meta `json:"metadata"`
}

// Kind is that of namespaces.
func (n *Namespace) Kind() *Kind { return &namespaceKind }

func (n *Namespace) spec() any { return nil }

// check sets the label that Kubernetes sets, whatever was written there.
func (n *Namespace) check(*problems) {
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[NamespaceNameLabel] = n.Name
}

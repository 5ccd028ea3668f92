package scale

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ringway/control/object"
	"ringway/control/store"
)

const (
	namespaces = 50
	batch      = 2000 // objects of one transaction
)

// cluster is what the objects of a measurement are made from. Endpoints are spread
// over the nodes, and apps over the endpoints. Each app is an identity and has a
// policy.
type cluster struct {
	nodes, endpoints, apps int
}

func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

func (c *cluster) node(i int) *object.Node {
	n := &object.Node{Meta: object.Meta{Name: nodeName(i)}}
	n.Spec.Address = fmt.Sprintf("172.%d.%d.%d", 16+i>>16, i>>8&255, i&255)
	n.Spec.NodeCIDRs = []string{fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)}
	return n
}

// endpoint is one of the cluster's nodes.
func (c *cluster) endpoint(i int) *object.Endpoint {
	node, app := i%c.nodes, i%c.apps
	e := &object.Endpoint{Meta: object.Meta{Namespace: namespace(app), Name: fmt.Sprintf("pod%d", i)}}
	e.Spec = object.EndpointSpec{
		Node:    nodeName(node),
		Address: fmt.Sprintf("10.%d.%d.%d", node>>8, node&255, 2+i/c.nodes),
		Labels:  labels(app),
	}
	return e
}

func namespace(app int) string { return fmt.Sprintf("ns%d", app%namespaces) }

func labels(app int) map[string]string { return map[string]string{"app": fmt.Sprintf("app%d", app)} }

// identity is that of an app's endpoints.
func (c *cluster) identity(app int) object.Identity {
	return object.Identity{ID: object.MinIdentity + uint32(app), Namespace: namespace(app), Labels: labels(app)}
}

// policy lets a neighbour of the same namespace reach an app, and all of the next
// namespace.
func (c *cluster) policy(app, port int) *object.NetworkPolicy {
	p := &object.NetworkPolicy{Meta: object.Meta{Namespace: namespace(app), Name: fmt.Sprintf("app%d", app)}}
	tcp := corev1.ProtocolTCP
	ports := func(n int) []networkingv1.NetworkPolicyPort {
		at := intstr.FromInt32(int32(n))
		return []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &at}}
	}
	pods := &metav1.LabelSelector{MatchLabels: labels(app + namespaces)}
	next := &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace(app + 1)}}
	p.Spec = networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: labels(app)},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{
			{From: []networkingv1.NetworkPolicyPeer{{PodSelector: pods}}, Ports: ports(port)},
			{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: next}}, Ports: ports(443)},
		},
	}
	return p
}

// put is what writes an object.
type put func(store.Tx) error

func putOf(o object.Object) put {
	return func(tx store.Tx) error {
		value, err := object.Canonical(o)
		if err != nil {
			return err
		}
		return tx.Put(object.Key(o), value)
	}
}

func (c *cluster) identityPut(app int) put {
	return func(tx store.Tx) error {
		id := c.identity(app)
		value, err := id.Canonical()
		if err != nil {
			return err
		}
		return tx.Put(object.IdentityKey(id.ID), value)
	}
}

// fill writes all objects.
func (c *cluster) fill(ctx context.Context, s *store.Store) error {
	total := c.nodes + 2*c.apps + c.endpoints
	for from := 0; from < total; from += batch {
		_, err := s.Update(ctx, func(tx store.Tx) error {
			for i := from; i < min(from+batch, total); i++ {
				if err := c.nth(i)(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write the objects: %w", err)
		}
	}
	return nil
}

// nth is one of all objects.
func (c *cluster) nth(i int) put {
	if i < c.nodes {
		return putOf(c.node(i))
	}
	if i -= c.nodes; i < c.apps {
		return c.identityPut(i)
	}
	if i -= c.apps; i < c.apps {
		return putOf(c.policy(i, 80))
	}
	return putOf(c.endpoint(i - c.apps))
}

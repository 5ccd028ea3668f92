package compile

import (
	"fmt"
	"net/netip"
	"strconv"

	"k8s.io/apimachinery/pkg/labels"

	"ringway/control/object"
	"ringway/control/store"
)

// fact puts what an object says into a round. What can be wrong with the object has
// been looked at by then.
type fact func(*round)

func readAll(items []store.Item) ([]fact, error) {
	facts := make([]fact, 0, len(items))
	for i := range items {
		f, err := read(&items[i])
		if err != nil {
			return nil, fmt.Errorf("compile %s: %w", items[i].Key, err)
		}
		facts = append(facts, f)
	}
	return facts, nil
}

func read(item *store.Item) (fact, error) {
	switch o := item.Object.(type) {
	case *object.RoutingConfig:
		m := o.Message()
		return func(r *round) { r.settings, r.staleSettings = m, true }, nil
	case *object.Masquerade:
		m := o.Message()
		return func(r *round) { r.masquerade, r.staleMasquerade = m, true }, nil
	case *object.Node:
		m := o.Message()
		return func(r *round) { r.putNode(m) }, nil
	case *object.Namespace:
		return func(r *round) { r.putNamespace(o.Name, o.Labels) }, nil
	case *object.LocalRedirectPolicy:
		m := o.Message()
		return func(r *round) { r.putRedirect(name{o.Namespace, o.Name}, m) }, nil
	case *object.Service:
		s := &service{message: o.Message()}
		if len(o.Spec.Selector) > 0 {
			s.selector = labels.SelectorFromSet(o.Spec.Selector)
		}
		return func(r *round) { r.putService(name{o.Namespace, o.Name}, s) }, nil
	case *object.Identity:
		return func(r *round) { r.putIdentity(&identity{o.ID, newProfile(*o)}) }, nil
	case *object.Endpoint:
		return readEndpoint(o)
	case *object.NetworkPolicy:
		p, err := readPolicy(o)
		return func(r *round) { r.putPolicy(p) }, err
	case *object.Pool, object.Counter:
		return func(*round) {}, nil // no node is told of them
	default:
		return nil, fmt.Errorf("%T is no object that is known here: update this controller", o)
	}
}

func readEndpoint(o *object.Endpoint) (fact, error) {
	address, err := netip.ParseAddr(o.Spec.Address)
	if err != nil {
		return nil, fmt.Errorf("spec.address: %w: give it one of its node's", err)
	}
	e := &endpoint{
		name:    name{o.Namespace, o.Name},
		node:    o.Spec.Node,
		address: address,
		profile: newProfile(o.Identity()),
	}
	return func(r *round) { r.putEndpoint(e) }, nil
}

// forget takes out of a round what an object said. That there is none is fine.
func (r *round) forget(k store.Key) {
	n := name{k.Namespace, k.Name}
	switch k.Kind {
	case object.KindRoutingConfig:
		r.settings, r.staleSettings = nil, true
	case object.KindMasquerade:
		r.masquerade, r.staleMasquerade = nil, true
	case object.KindNode:
		r.deleteNode(k.Name)
	case object.KindNamespace:
		r.deleteNamespace(k.Name)
	case object.KindRedirect:
		r.putRedirect(n, nil)
	case object.KindService:
		r.deleteService(n)
	case object.KindIdentity:
		if id, err := strconv.ParseUint(k.Name, 10, 32); err == nil {
			r.deleteIdentity(uint32(id))
		}
	case object.KindEndpoint:
		r.deleteEndpoint(n)
	case object.KindNetworkPolicy:
		r.deletePolicy(n)
	}
}

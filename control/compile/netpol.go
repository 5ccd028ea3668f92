package compile

import (
	"cmp"
	"fmt"
	"net/netip"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ringway/control/object"
	pb "ringway/control/ringwayv1"
)

// netpol is a NetworkPolicy, read. It is immutable.
type netpol struct {
	name     name
	deny     bool
	priority int
	pods     labels.Selector
	ingress  *direction // nil: the policy has no say in it
	egress   *direction
}

// direction is a policy's rules for what pods get, or send.
type direction struct {
	egress bool
	rules  []rule
}

// rule is one entry of a policy's ingress or egress.
type rule struct {
	name    string
	anyone  bool // there are no peers to choose from: everybody
	peers   []peer
	blocks  []*pb.PolicyBlock
	anyPort bool
	ports   []*pb.PolicyPort
	named   []portName
}

// peer is pods by their labels and those of their namespaces.
type peer struct {
	namespaces labels.Selector // nil: the policy's own
	pods       labels.Selector
}

// portName is a port that each pod has a number of its own for.
type portName struct{ name, protocol string }

// compareOrder is the order in which the policies of a namespace are asked.
func (p *netpol) compareOrder(q *netpol) int {
	return cmp.Or(cmp.Compare(p.priority, q.priority), cmp.Compare(p.rank(), q.rank()), compareNames(p.name, q.name))
}

func (p *netpol) rank() int {
	if p.deny {
		return 0
	}
	return 1
}

// readPolicy reads p, which must not be changed afterwards.
func readPolicy(p *object.NetworkPolicy) (*netpol, error) {
	pods, err := selector("spec.podSelector", &p.Spec.PodSelector)
	if err != nil {
		return nil, err
	}
	out := &netpol{
		name:     name{p.Namespace, p.Name},
		deny:     p.Action() == object.ActionDeny,
		priority: p.Priority(),
		pods:     pods,
	}
	ingress, egress := directions(&p.Spec)
	if ingress {
		out.ingress = &direction{}
		for i, r := range p.Spec.Ingress {
			if err := out.ingress.add(out.name, i, r.From, r.Ports); err != nil {
				return nil, err
			}
		}
	}
	if egress {
		out.egress = &direction{egress: true}
		for i, r := range p.Spec.Egress {
			if err := out.egress.add(out.name, i, r.To, r.Ports); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// directions is which directions a policy has a say in: the default of policyTypes
// is the API server's.
func directions(spec *networking.NetworkPolicySpec) (ingress, egress bool) {
	if len(spec.PolicyTypes) == 0 {
		return true, len(spec.Egress) > 0
	}
	for _, t := range spec.PolicyTypes {
		ingress = ingress || t == networking.PolicyTypeIngress
		egress = egress || t == networking.PolicyTypeEgress
	}
	return ingress, egress
}

func selector(field string, s *meta.LabelSelector) (labels.Selector, error) {
	out, err := meta.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return out, nil
}

func (d *direction) add(policy name, index int, peers []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort) error {
	field, list := fmt.Sprintf("ingress[%d]", index), "from"
	if d.egress {
		field, list = fmt.Sprintf("egress[%d]", index), "to"
	}
	r := rule{
		name:    fmt.Sprintf("%s %s", policy, field),
		anyone:  len(peers) == 0,
		anyPort: len(ports) == 0,
	}
	for i := range peers {
		if err := r.addPeer(fmt.Sprintf("spec.%s.%s[%d]", field, list, i), &peers[i]); err != nil {
			return err
		}
	}
	for i := range ports {
		r.addPort(&ports[i])
	}
	d.rules = append(d.rules, r)
	return nil
}

func (r *rule) addPeer(field string, p *networking.NetworkPolicyPeer) error {
	if p.IPBlock != nil {
		return r.addBlock(field+".ipBlock", p.IPBlock)
	}
	out := peer{pods: labels.Everything()}
	var err error
	if p.PodSelector != nil {
		if out.pods, err = selector(field+".podSelector", p.PodSelector); err != nil {
			return err
		}
	}
	if p.NamespaceSelector != nil {
		if out.namespaces, err = selector(field+".namespaceSelector", p.NamespaceSelector); err != nil {
			return err
		}
	}
	r.peers = append(r.peers, out)
	return nil
}

// addBlock leaves IPv6 out: no pod of ours and nothing that reaches one has such
// an address.
func (r *rule) addBlock(field string, b *networking.IPBlock) error {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return fmt.Errorf("%s.cidr: %q is not a CIDR: write it as in 192.0.2.0/24", field, b.CIDR)
	}
	if cidr.Addr().Is4() {
		r.blocks = append(r.blocks, &pb.PolicyBlock{Cidr: b.CIDR, Except: b.Except})
	}
	return nil
}

func (r *rule) addPort(p *networking.NetworkPolicyPort) {
	protocol := string(core.ProtocolTCP)
	if p.Protocol != nil {
		protocol = string(*p.Protocol)
	}
	if p.Port != nil && p.Port.Type == intstr.String {
		r.named = append(r.named, portName{p.Port.StrVal, protocol})
		return
	}
	out := &pb.PolicyPort{Protocol: protocol}
	if p.Port != nil {
		out.Port = new(uint32(p.Port.IntVal))
	}
	if p.EndPort != nil {
		out.EndPort = new(uint32(*p.EndPort))
	}
	r.ports = append(r.ports, out)
}

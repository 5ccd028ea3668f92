package object

import (
	"fmt"

	"ringway/control"
	"ringway/internal/podaddr"
	"ringway/nat"
)

func (a *admitter) redirect(r *LocalRedirectPolicy) {
	if m := r.Spec.RedirectFrontend.AddressMatcher; m != nil {
		a.notAGateway("spec.redirectFrontend.addressMatcher.ip", m.IP)
	}
	spec := r.Redirect()
	redirects, words := 1, selectorWords(r)
	for other := range othersOf[*LocalRedirectPolicy](a, KindRedirect) {
		if a.full() {
			return
		}
		redirects++
		words += selectorWords(other)
		theirs := other.Redirect()
		if both := spec.Clash(&theirs); both != "" {
			a.add("spec.redirectFrontend", fmt.Sprintf("%s is also redirected by %s", both, theirs.ID()), "keep one of them")
		}
	}
	if redirects > nat.MaxRedirects {
		a.add("metadata.name", fmt.Sprintf("there are %d redirects already", redirects-1), "delete one that is not needed")
	}
	if words > control.MaxSelectorWords {
		a.add("spec.redirectBackend.localEndpointSelector", fmt.Sprintf("all redirects together would have %d labels and values of selectors", words), fmt.Sprintf("keep to %d", control.MaxSelectorWords))
	}
}

// notAGateway: what is sent to a node's gateway is the node's to answer.
func (a *admitter) notAGateway(field, ip string) {
	addr := address(ip)
	for n := range othersOf[*Node](a, KindNode) {
		if cidrs := n.facts().cidrs; len(cidrs) > 0 && podaddr.Gateway(cidrs[0]) == addr {
			a.add(field, fmt.Sprintf("%s is the gateway of node %q", addr, n.Name), "choose another address")
			return
		}
	}
	if p, ok := poolGateway(a.view, addr); ok {
		a.add(field, fmt.Sprintf("%s is the gateway of a node to come, by pool %q", addr, p.Name), "choose another address")
	}
}

// selectorWords counts as control.MaxSelectorWords does.
func selectorWords(r *LocalRedirectPolicy) int {
	s := r.Spec.RedirectBackend.LocalEndpointSelector
	if s == nil {
		return 0
	}
	words := len(s.MatchLabels) + len(s.MatchExpressions)
	for _, e := range s.MatchExpressions {
		words += len(e.Values)
	}
	return words
}

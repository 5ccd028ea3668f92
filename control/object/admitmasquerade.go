package object

import "fmt"

// masquerade keeps addresses of pods out: what comes back to one would be taken for
// the pod's.
func (a *admitter) masquerade(m *Masquerade) {
	for i, r := range m.Spec.Rules {
		for j, s := range r.Addresses {
			if a.full() {
				return
			}
			a.inPods(fmt.Sprintf("spec.rules[%d].addresses[%d]", i, j), address(s))
		}
	}
}

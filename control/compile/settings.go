package compile

import (
	"ringway/control/object"
	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// compileSettings makes the one resource that every set has.
func (r *round) compileSettings() error {
	if !r.staleSettings && r.common.has(tableset.KeySettings) {
		return nil
	}
	m := r.settings
	if m == nil {
		m = object.DefaultRoutingConfig().Message()
	}
	return r.putCommon(tableset.KeySettings, m)
}

func (r *round) compileMasquerade() error {
	if !r.staleMasquerade {
		return nil
	}
	return r.putCommon(tableset.KeyMasquerade, r.masquerade)
}

func (r *round) putRedirect(n name, m *pb.Redirect) {
	r.staleRedirects[n] = true
	if m == nil {
		r.redirects.delete(n)
		return
	}
	r.redirects.put(n, m)
}

// compileRedirects leaves which endpoints they lead to to the nodes: it is their
// own.
func (r *round) compileRedirects() error {
	for n := range r.staleRedirects {
		if err := r.putCommon(tableset.KeyRedirect(n.namespace, n.name), r.redirects.at(n)); err != nil {
			return err
		}
	}
	return nil
}

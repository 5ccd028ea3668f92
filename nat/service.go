package nat

import "slices"

// Frontend is an address, port and protocol that pods send to and that stands for
// backends: a port of a service, or an address that a redirect takes. It is
// immutable, but for the health of its backends.
type Frontend struct {
	Addr  uint32
	Port  uint16
	Proto uint8
	// IsService: it is a port of a service. Otherwise it is an address like any
	// other, which is used as it is where the redirect has no backend.
	IsService bool
	// IsDNS: what goes to it are DNS queries over UDP that are redirected.
	IsDNS    bool
	Name     string    // the service, else the redirect, as in "kube-system/kube-dns"
	PortName string    // "": it has none
	Backends []Backend // of the service, in order of their addresses
	Redirect *Redirect // nil: there is none
}

// Redirect is what a redirect does with one frontend. It has a backend; otherwise
// the frontend would have no redirect.
type Redirect struct {
	Name   string // as in "kube-system/nodelocaldns"
	Number int    // of its Resolution in the list
	Local  []Backend

	// exempt are the addresses that its backends send from.
	exempt []uint32
}

// Choose is where a flow, or query, of this hash goes: to a healthy backend of the
// redirect, else to one of the service. A client that is a backend of the redirect
// gets the service: it would come back to itself otherwise, and so it is whatever
// skipRedirectFromBackend says. false: there is no healthy backend. It does not
// allocate.
//
// Equal hashes give the same backend as long as that is there and healthy.
func (f *Frontend) Choose(hash uint64, client uint32) (*Backend, bool) {
	if f.Redirect != nil {
		if b, ok := f.Redirect.Choose(hash, client); ok {
			return b, true
		}
	}
	return f.ChooseService(hash)
}

// ChooseService is Choose as if there were no redirect.
func (f *Frontend) ChooseService(hash uint64) (*Backend, bool) {
	b := choose(f.Backends, hash)
	return b, b != nil
}

// Choose is a healthy backend of the redirect. false: there is none, or none for
// this client, which is a backend itself.
func (r *Redirect) Choose(hash uint64, client uint32) (*Backend, bool) {
	if slices.Contains(r.exempt, client) {
		return nil, false
	}
	b := choose(r.Local, hash)
	return b, b != nil
}

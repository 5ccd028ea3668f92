package nat

import "fmt"

// Configure says which ports of an address are for SNAT: those of the ranges, in
// every class, but for the ports of the host in a class. Port 0 never is. No
// range makes all of them the host's. It replaces what was said before.
//
// A port that a live flow has and that is not for SNAT any more stays in use until
// its last live flow has ended, and is not given to further flows; [Owners.Conflicts]
// names it until then. One that only closed flows have goes to the host at once.
// The error is that of an index or range that makes no sense; nothing has
// changed then.
func (o *Owners) Configure(index int, ranges []PortRange, host [Classes][]uint16) error {
	if index < 0 || index >= o.Addresses() {
		return fmt.Errorf("configure ports: no SNAT address has index %d, there is room for %d", index, o.Addresses())
	}
	var inRange portSet
	for _, r := range ranges {
		if r.Low > r.High {
			return fmt.Errorf("configure ports: range %d-%d ends before it begins", r.Low, r.High)
		}
		for port := int(r.Low); port <= int(r.High); port++ {
			inRange.add(uint16(port))
		}
	}
	inRange.remove(0)

	o.mu.Lock()
	defer o.mu.Unlock()
	for class := range Class(Classes) {
		s := o.slot(index, class)
		s.inRange, s.host = inRange, portSet{}
		for _, port := range host[class] {
			s.host.add(port)
		}
		for word := range wordCount {
			o.want(s, word)
		}
	}
	return nil
}

// SetHost says that a port is the host's, or is not any more. As with Configure,
// live flows keep it until they end.
func (o *Owners) SetHost(index int, class Class, port uint16, host bool) {
	s := o.slot(index, class)
	if s == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if host {
		s.host.add(port)
	} else {
		s.host.remove(port)
	}
	o.want(s, int(port>>6))
}

// want puts what the control side wants of 64 ports into force. While flows are
// being restored it only notes it. Called with mu held.
func (o *Owners) want(s *slot, word int) {
	ours := s.inRange[word] &^ s.host[word]
	changed := s.ours[word].Load() ^ ours
	s.ours[word].Store(ours)
	if o.restored != nil {
		return
	}
	for bit := range uint16(64) {
		if changed>>bit&1 != 0 {
			s.settle(uint16(word)<<6 | bit)
		}
	}
}

// Conflicts gives up to n ports that live flows have though they should be the
// host's, in order.
func (o *Owners) Conflicts(index int, class Class, n int) []uint16 {
	s := o.slot(index, class)
	if s == nil {
		return nil
	}
	var found []uint16
	for port := 0; port < portCount && len(found) < n; port++ {
		state := s.load(uint16(port))
		if state >= StateUsed && state < StateHeld && !s.isOurs(uint16(port)) {
			found = append(found, uint16(port))
		}
	}
	return found
}

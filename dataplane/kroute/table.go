package kroute

import "net/netip"

// table is the kernel's main table, skipped routes too: they take a place that
// another may replace. Most prefixes have one.
type table struct {
	routes map[netip.Prefix][]parsed // by metric, then in the kernel's order
}

func newTable() table { return table{routes: map[netip.Prefix][]parsed{}} }

// best is the route that holds for a prefix: that of the lowest metric which is
// neither dead nor skipped.
func (t table) best(prefix netip.Prefix) (Route, bool) {
	for _, p := range t.routes[prefix] {
		if !p.dead && !p.skipped {
			return p.Route, true
		}
	}
	return Route{}, false
}

// insert adds a route to its slot, at its front or its end. It is safe to
// insert what is there already.
func (t table) insert(p parsed, front bool) {
	list := t.routes[p.Prefix]
	at := 0
	for at < len(list) && (list[at].Metric < p.Metric || !front && list[at].Metric == p.Metric) {
		if list[at] == p {
			return
		}
		at++
	}
	if at < len(list) && list[at] == p {
		return
	}
	list = append(list, parsed{})
	copy(list[at+1:], list[at:])
	list[at] = p
	t.routes[p.Prefix] = list
}

// replace puts p where the first route of its slot was. It says whether that is
// certain to be what the kernel did: of several in a slot, or of none, it is
// not (a notification older than the last dump).
func (t table) replace(p parsed) (certain bool) {
	at, n := t.slot(p)
	if n == 0 {
		t.insert(p, true)
		return false
	}
	t.routes[p.Prefix][at] = p
	return n == 1
}

// remove deletes the route equal to p. A delete message does not tell of dead
// nexthops, so that a route that is alone in its slot goes whatever it is.
func (t table) remove(p parsed) (certain bool) {
	at, n := t.slot(p)
	if n == 0 {
		return true
	}
	if n > 1 {
		for i := at; i < at+n; i++ {
			if t.routes[p.Prefix][i].Route == p.Route {
				at = i
				break
			}
		}
	}
	list := t.routes[p.Prefix]
	list = append(list[:at], list[at+1:]...)
	if len(list) == 0 {
		delete(t.routes, p.Prefix)
	} else {
		t.routes[p.Prefix] = list
	}
	return n == 1
}

// slot is where the routes with p's prefix and metric begin, and their number.
func (t table) slot(p parsed) (at, n int) {
	list := t.routes[p.Prefix]
	for at < len(list) && list[at].Metric < p.Metric {
		at++
	}
	for at+n < len(list) && list[at+n].Metric == p.Metric {
		n++
	}
	return at, n
}

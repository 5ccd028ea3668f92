package dnsquery

// chain holds the links of entries, by index, in doubly linked lists of which each
// entry is in one. Index 0 is none.
type chain []link

type link struct{ before, after uint32 }

// list is one of the lists of a chain.
type list struct {
	first, last uint32
	n           int
}

// push adds an entry at the end.
func (c chain) push(l *list, i uint32) {
	c[i] = link{before: l.last}
	if l.last != 0 {
		c[l.last].after = i
	} else {
		l.first = i
	}
	l.last = i
	l.n++
}

// remove takes an entry out, wherever in the list it is.
func (c chain) remove(l *list, i uint32) {
	k := c[i]
	if k.before != 0 {
		c[k.before].after = k.after
	} else {
		l.first = k.after
	}
	if k.after != 0 {
		c[k.after].before = k.before
	} else {
		l.last = k.before
	}
	l.n--
}

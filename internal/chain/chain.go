// Package chain keeps entries of an array in doubly linked lists, by their index:
// no pointers, nothing allocated, out of a list from wherever in it an entry is.
package chain

// Chain holds the links of entries, of which each is in one list. Index 0 is none.
type Chain []Link

// Link is what an entry knows of its list.
type Link struct{ Before, After uint32 }

// List is one of the lists of a Chain.
type List struct {
	First, Last uint32
	Len         int
}

// Push adds an entry at the end.
func (c Chain) Push(l *List, i uint32) {
	c[i] = Link{Before: l.Last}
	if l.Last != 0 {
		c[l.Last].After = i
	} else {
		l.First = i
	}
	l.Last = i
	l.Len++
}

// Remove takes an entry out of the list that it is in.
func (c Chain) Remove(l *List, i uint32) {
	k := c[i]
	if k.Before != 0 {
		c[k.Before].After = k.After
	} else {
		l.First = k.After
	}
	if k.After != 0 {
		c[k.After].Before = k.Before
	} else {
		l.Last = k.Before
	}
	l.Len--
}

package nat

const (
	slabBits = 10
	slabSize = 1 << slabBits
)

// slab is an array of records that grows in chunks, so that growing moves
// nothing, and that gives out its records again. The number of a record is its
// name; 0 is none. Its records should have no pointers: the collector then has
// nothing to look at.
type slab[T any] struct {
	chunks []*[slabSize]T
	next   uint32   // the first that was never given out
	free   []uint32 // those that were given back
}

// at is the record with a number that alloc gave.
func (s *slab[T]) at(i uint32) *T { return &s.chunks[i>>slabBits][i&(slabSize-1)] }

// alloc gives a zeroed record.
func (s *slab[T]) alloc() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	s.next++
	s.reach(s.next)
	return s.next
}

// release takes a record back.
func (s *slab[T]) release(i uint32) {
	*s.at(i) = *new(T)
	s.free = append(s.free, i)
}

// reach makes the record with this number there, for records that are numbered
// from outside.
func (s *slab[T]) reach(i uint32) *T {
	chunk := int(i >> slabBits)
	for chunk >= len(s.chunks) {
		s.chunks = append(s.chunks, nil)
	}
	if s.chunks[chunk] == nil {
		s.chunks[chunk] = new([slabSize]T)
	}
	return s.at(i)
}

// find is the record with a number from outside, or nil if it was never reached.
func (s *slab[T]) find(i uint32) *T {
	chunk := int(i >> slabBits)
	if chunk >= len(s.chunks) || s.chunks[chunk] == nil {
		return nil
	}
	return s.at(i)
}

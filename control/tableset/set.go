package tableset

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	pb "ringway/control/ringwayv1"
)

// Bounds of a set, whoever made it.
const (
	MaxResources = 1 << 18   // every node, its endpoints, and all services and identities at their limits
	MaxBytes     = 256 << 20 // of all keys and values
	maxKey       = 1024      // two RFC 1123 names and more
)

// Set is the resources of a node, or of all nodes, by key. It keeps the digest of
// all of them as they come and go. The zero Set is empty. It is not safe for
// concurrent use.
type Set struct {
	resources map[string]Resource
	sum       Sum
	bytes     int
}

// Of is the set of resources; of two with the same key, the later one counts.
func Of(resources ...Resource) *Set {
	s := &Set{}
	for i := range resources {
		s.Put(resources[i])
	}
	return s
}

// Clone is a copy that shares the resources, which nobody modifies.
func (s *Set) Clone() *Set {
	return &Set{resources: maps.Clone(s.resources), sum: s.sum, bytes: s.bytes}
}

// Get is the resource of a key.
func (s *Set) Get(key string) (Resource, bool) {
	r, ok := s.resources[key]
	return r, ok
}

// Put adds a resource or replaces the one of its key.
func (s *Set) Put(r Resource) {
	s.Delete(r.Key)
	if s.resources == nil {
		s.resources = map[string]Resource{}
	}
	s.resources[r.Key] = r
	s.sum.Add(r.Digest)
	s.bytes += len(r.Key) + len(r.Value)
}

// Delete removes a resource; there being none is fine.
func (s *Set) Delete(key string) {
	old, ok := s.resources[key]
	if !ok {
		return
	}
	delete(s.resources, key)
	s.sum.Remove(old.Digest)
	s.bytes -= len(old.Key) + len(old.Value)
}

// Len is how many resources there are.
func (s *Set) Len() int { return len(s.resources) }

// Bytes is how long their keys and values are together.
func (s *Set) Bytes() int { return s.bytes }

// Sum is the digest of all resources, to calculate with.
func (s *Set) Sum() Sum { return s.sum }

// Digest is the digest of all resources.
func (s *Set) Digest() Digest { return s.sum.Digest() }

// Keys are in ascending order.
func (s *Set) Keys() []string { return slices.Sorted(maps.Keys(s.resources)) }

// All are the resources in any order.
func (s *Set) All() iter.Seq[Resource] { return maps.Values(s.resources) }

// Resources are in ascending order of their keys.
func (s *Set) Resources() []Resource {
	out := make([]Resource, 0, len(s.resources))
	for _, k := range s.Keys() {
		out = append(out, s.resources[k])
	}
	return out
}

// Changed says what is other in a set than in the one before.
type Changed struct {
	Keys []string // ascending, each once: added, replaced or gone
}

// Difference is what is other in next than in base.
func Difference(base, next *Set) Changed {
	var c Changed
	for key, r := range next.resources {
		if old, ok := base.resources[key]; !ok || old.Digest != r.Digest {
			c.Keys = append(c.Keys, key)
		}
	}
	for key := range base.resources {
		if _, ok := next.resources[key]; !ok {
			c.Keys = append(c.Keys, key)
		}
	}
	slices.Sort(c.Keys)
	return c
}

// ErrMismatch is of changes that were made for another set than the one at hand,
// or that lost something on their way: a full set helps.
var ErrMismatch = errors.New("the changes do not fit the set")

// Apply makes a new set of base and changes, which it takes in their order, and
// verifies what every change replaces and that the digest at the end is hash. base
// stays as it is. The values of the changes are kept.
func Apply(base *Set, hash []byte, changes ...*pb.Changes) (*Set, Changed, error) {
	next := base.Clone()
	var touched Changed
	for _, c := range changes {
		if err := next.change(c, &touched); err != nil {
			return nil, Changed{}, err
		}
	}
	want, err := digest(hash)
	if err != nil {
		return nil, Changed{}, fmt.Errorf("hash: %w: %w", err, ErrMismatch)
	}
	if next.Digest() != want {
		return nil, Changed{}, fmt.Errorf("hash %x, announced as %x: %w", next.Digest(), want, ErrMismatch)
	}
	slices.Sort(touched.Keys)
	touched.Keys = slices.Compact(touched.Keys)
	return next, touched, nil
}

func (s *Set) change(c *pb.Changes, touched *Changed) error {
	for _, r := range c.GetRemovals() {
		if len(r.GetOld()) == 0 {
			return fmt.Errorf("removal of %q: it does not say of what: %w", clip(r.GetKey()), ErrMismatch)
		}
		if err := s.verify(r.GetKey(), r.GetOld()); err != nil {
			return fmt.Errorf("removal of %q: %w", clip(r.GetKey()), err)
		}
		s.Delete(r.GetKey())
		touched.Keys = append(touched.Keys, r.GetKey())
	}
	for _, u := range c.GetUpserts() {
		if err := s.verify(u.GetKey(), u.GetOld()); err != nil {
			return fmt.Errorf("change of %q: %w", clip(u.GetKey()), err)
		}
		s.Put(Encoded(u.GetKey(), u.GetValue()))
		touched.Keys = append(touched.Keys, u.GetKey())
		if s.Len() > MaxResources {
			return fmt.Errorf("more than %d resources: make the cluster smaller", MaxResources)
		}
		if s.bytes > MaxBytes {
			return fmt.Errorf("more than %d bytes of resources: make the cluster smaller", MaxBytes)
		}
	}
	return nil
}

// verify checks that what a change replaces is what is there; an empty old stands
// for nothing.
func (s *Set) verify(key string, old []byte) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("a key has 1 to %d bytes, this one %d", maxKey, len(key))
	}
	r, ok := s.resources[key]
	if len(old) == 0 {
		if ok {
			return fmt.Errorf("there is one already: %w", ErrMismatch)
		}
		return nil
	}
	want, err := digest(old)
	if err != nil {
		return err
	}
	if !ok || r.Digest != want {
		return fmt.Errorf("it is another one here: %w", ErrMismatch)
	}
	return nil
}

// clip bounds what an error repeats of a message.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

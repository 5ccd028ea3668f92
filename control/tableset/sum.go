package tableset

import (
	"encoding/binary"
	"errors"
	"fmt"

	pb "ringway/control/ringwayv1"
)

// Sum is the digest of a set in two lanes: the sums of the lanes of the digests of
// its resources. So one resource more or less costs one addition, in any order.
type Sum [2]uint64

// Add takes a resource into the sum.
func (s *Sum) Add(d Digest) {
	s[0] += binary.LittleEndian.Uint64(d[:8])
	s[1] += binary.LittleEndian.Uint64(d[8:])
}

// Remove takes a resource out of the sum.
func (s *Sum) Remove(d Digest) {
	s[0] -= binary.LittleEndian.Uint64(d[:8])
	s[1] -= binary.LittleEndian.Uint64(d[8:])
}

// Plus is the sum of two sets that share no resource.
func (s Sum) Plus(o Sum) Sum { return Sum{s[0] + o[0], s[1] + o[1]} }

// Digest is the sum as it travels.
func (s Sum) Digest() Digest {
	var d Digest
	binary.LittleEndian.PutUint64(d[:8], s[0])
	binary.LittleEndian.PutUint64(d[8:], s[1])
	return d
}

// Change follows changes without the resources that they are made to: it trusts the
// old digests, so only the sum at the end tells whether they fit. s is unchanged
// when there is an error.
func (s *Sum) Change(c *pb.Changes) error {
	next := *s
	for _, r := range c.GetRemovals() {
		old, err := digest(r.GetOld())
		if err != nil {
			return fmt.Errorf("removal of %q: %w", clip(r.GetKey()), err)
		}
		next.Remove(old)
	}
	for _, u := range c.GetUpserts() {
		if len(u.GetOld()) > 0 {
			old, err := digest(u.GetOld())
			if err != nil {
				return fmt.Errorf("change of %q: %w", clip(u.GetKey()), err)
			}
			next.Remove(old)
		}
		next.Add(Encoded(u.GetKey(), u.GetValue()).Digest)
	}
	*s = next
	return nil
}

var errDigest = errors.New("a digest has 16 bytes")

func digest(b []byte) (Digest, error) {
	if len(b) != len(Digest{}) {
		return Digest{}, fmt.Errorf("%d bytes: %w", len(b), errDigest)
	}
	return Digest(b), nil
}

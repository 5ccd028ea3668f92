package object

import (
	"errors"

	"ringway/control"
	pb "ringway/control/ringwayv1"
)

// part holds a part of a table set to the rules of table sets. rename makes a field
// of the object of one of the set.
func (p *problems) part(set *pb.TableSet, rename func(field string) string) {
	var found control.Problems
	if !errors.As(control.ValidatePart(set), &found) {
		return
	}
	for _, f := range found {
		p.add(rename(f.Field), f.Reason, f.Remedy)
	}
}

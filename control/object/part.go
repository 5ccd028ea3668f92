package object

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"ringway/control"
	pb "ringway/control/ringwayv1"
)

// self is what the only service of a set, and its rules, are called in an object.
var self = strings.NewReplacer("services[0]", "this service", "masquerade.rules[", "spec.rules[")

// part holds a part of a table set to the rules of table sets. rename makes a field
// of the object of one of the set.
func (p *problems) part(set *pb.TableSet, rename func(field string) string) {
	var found control.Problems
	if !errors.As(control.ValidatePart(set), &found) {
		return
	}
	for _, f := range found {
		p.add(rename(f.Field), self.Replace(f.Reason), f.Remedy)
	}
}

// fits reports a number that a message has no room for. Those that it has room for
// are looked at with the message.
func (p *problems) fits(field string, n, high int) bool {
	if n >= 0 && n <= math.MaxInt32 {
		return true
	}
	p.add(field, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("choose 1 to %d", high))
	return false
}

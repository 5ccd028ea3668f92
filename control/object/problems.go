package object

import (
	"fmt"
	"strings"
	"unicode"

	"ringway/control"
)

// maxProblems bounds what one refusal reports, as in package control.
const maxProblems = 10

// problems collects what is wrong with one object, in the order of its fields.
type problems struct {
	list control.Problems
}

// add appends a problem; the remedy comes last so that call sites read as the
// message does.
func (p *problems) add(field, reason, remedy string) {
	p.list = append(p.list, control.Problem{Field: field, Reason: reason, Remedy: remedy})
}

func (p *problems) full() bool { return len(p.list) >= maxProblems }

// err has prefix, which says whose fields they are, before each field. It is nil
// when nothing is wrong, and otherwise control.Problems.
func (p *problems) err(prefix string) error {
	if len(p.list) == 0 {
		return nil
	}
	out := make(control.Problems, min(len(p.list), maxProblems))
	for i := range out {
		out[i] = p.list[i]
		out[i].Field = prefix + ": " + out[i].Field
	}
	return out
}

// clip bounds what an error quotes of its input.
func clip(s string) string { return fmt.Sprintf("%.80s", s) }

// word is what an error says without quotes of its input: clipped, and on one line.
func word(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%.80q", s)
	}
	return clip(s)
}

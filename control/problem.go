package control

import (
	"fmt"
	"strings"
)

// maxProblems bounds what one refusal reports: a set whose every entry is wrong
// is wrong for one reason.
const maxProblems = 10

// Problem is one thing that is wrong with a table set or a configuration.
type Problem struct {
	Field  string // path of the field, as in nodes[2].nodeCidrs[0]
	Reason string
	Remedy string
}

func (p Problem) Error() string {
	return fmt.Sprintf("%s: %s: %s", p.Field, p.Reason, p.Remedy)
}

// Problems is why something was refused, in the order of the input. It has at
// most maxProblems entries and at least one when it is an error.
type Problems []Problem

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// add appends a problem; the remedy comes last so that call sites read as the
// message does.
func (p *Problems) add(field, reason, remedy string) {
	*p = append(*p, Problem{field, reason, remedy})
}

func (p Problems) full() bool { return len(p) >= maxProblems }

// err is p as an error, cut to maxProblems; nil when there is none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p[:min(len(p), maxProblems)]
}

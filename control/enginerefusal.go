package control

import (
	"errors"
	"regexp"
	"strings"

	pb "ringway/control/ringwayv1"
)

// fieldPath begins what the dataplane says about a table set that only the node can
// refuse, as in nodes[2].address: ….
var fieldPath = regexp.MustCompile(`^([a-zA-Z]+(\[\d+\])?(\.[a-zA-Z]+(\[\d+\])?)*): `)

// problemsIn is an error as Problems. Where it does not say which field is wrong it
// is about the set as a whole.
func problemsIn(err error) Problems {
	var ps Problems
	if errors.As(err, &ps) {
		return ps
	}
	field, reason := "set", err.Error()
	if m := fieldPath.FindStringSubmatch(reason); m != nil {
		field, reason = m[1], reason[len(m[0]):]
	}
	remedy := "see the log of the node's agent"
	if before, after, ok := cutLast(reason, ": "); ok {
		reason, remedy = before, after
	}
	return Problems{{field, reason, remedy}}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func problemMessages(ps Problems) []*pb.Problem {
	var out []*pb.Problem
	for _, p := range ps {
		out = append(out, &pb.Problem{Field: p.Field, Reason: p.Reason, Remedy: p.Remedy})
	}
	return out
}

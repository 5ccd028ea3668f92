package push

import (
	"strings"

	pb "ringway/control/ringwayv1"
)

// Bounds of what is kept of a refusal.
const (
	maxProblems    = 10
	maxProblemText = 512
)

// bounded is problems, shortened where there is too much of them.
func bounded(problems []*pb.Problem) []*pb.Problem {
	out := make([]*pb.Problem, 0, min(len(problems), maxProblems))
	for _, p := range problems[:cap(out)] {
		out = append(out, &pb.Problem{Field: clip(p.GetField()), Reason: clip(p.GetReason()), Remedy: clip(p.GetRemedy())})
	}
	return out
}

func clip(s string) string {
	if len(s) <= maxProblemText {
		return s
	}
	return strings.ToValidUTF8(s[:maxProblemText], "") + "…"
}

package controller

import (
	"fmt"
	"testing"

	"ringway/control/pki"
)

// TestManyCalls: an operator elsewhere who makes more calls than a controller takes at
// once has all of them answered, as the batches of a large apply are.
func TestManyCalls(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	operator := s.client(c.address, s.files(pki.RoleOperator, "ann"))
	calls := pki.DefaultLimits().CallBurst + 200 // some more come by while it calls
	for n := range calls {
		doc := fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: ns, labels: {n: "%d"}}}`, n)
		if _, err := operator.Apply(t.Context(), []string{doc}); err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
	}
}

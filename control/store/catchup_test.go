package store

import (
	"testing"

	"ringway/control/store/storetest"
)

// TestCatchUp: what one store has committed another one knows after CatchUp, so that
// it does not find something done that has just been undone.
func TestCatchUp(t *testing.T) {
	m := storetest.StartMembers(t, 1)
	one, other := open(t, memberOptions(t, m)), open(t, memberOptions(t, m))
	for i := range 200 {
		version := update(t, one, increment("a"))
		if err := other.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := other.View().Version(); got < version {
			t.Fatalf("change %d: version %d after %d was committed", i, got, version)
		}
	}
}

package peer

import (
	"os/exec"
	"path/filepath"
	"testing"

	"ringway/bench/chain"
	"ringway/internal/netnstest"
)

// buildAgent builds the ringway binary.
func buildAgent(t *testing.T) string {
	t.Helper()
	agent := filepath.Join(t.TempDir(), "ringway")
	if out, err := exec.Command("go", "build", "-o", agent, "ringway/cmd/ringway").CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	return agent
}

func TestRingwayCarriesEveryRow(t *testing.T) {
	netnstest.Root(t)
	agent := buildAgent(t)
	for _, layout := range []string{chain.OneCore, chain.Split} {
		carriesRows(t, NewRingway(agent), layout)
	}
	masquerades(t, NewRingway(agent), chain.OneCore)
}

func TestRingwayThatDoesNotStart(t *testing.T) {
	netnstest.Root(t)
	l, err := chain.NewLayout(chain.Split)
	if err != nil {
		t.Fatal(err)
	}
	// A program that ends at once, with a word to say.
	c, err := chain.New(t.Context(), NewRingway("/bin/false"), plain64, l)
	if err == nil {
		t.Fatalf("a chain of /bin/false started: %v", c.Close())
	}
}

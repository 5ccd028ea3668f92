package situations

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/matrices.txt anew; then read it, line by line")

// TestMatrices holds the evaluator to matrices that were read by people.
func TestMatrices(t *testing.T) {
	const golden = "testdata/matrices.txt"
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, Legend)
	for _, s := range all {
		passes, err := Expected(s)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Matrix(passes)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n%s\n%s\n%s", s.Name, s.About, m)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the matrices are not those of %s any more; have:\n%s", golden, b.String())
	}
}

// TestSituationsSayWhatTheyAreFor keeps files without a comment out, and those of
// which two are the same.
func TestSituationsSayWhatTheyAreFor(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, s := range all {
		if s.About == "" {
			t.Errorf("%s does not say what it is for", s.Name)
		}
		if other, ok := seen[string(s.YAML)]; ok {
			t.Errorf("%s is %s", s.Name, other)
		}
		seen[string(s.YAML)] = s.Name
	}
}

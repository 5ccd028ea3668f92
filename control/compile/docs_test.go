package compile

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ringway/control/compile/situations"
)

// TestPageNamesWhatThereIs: the tests and situations that docs/policy.md claims to
// hold its sentences are there.
func TestPageNamesWhatThereIs(t *testing.T) {
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testSources(t, ".", "../../dataplane", "../../lab")
	names := regexp.MustCompile("`((?:Test|Benchmark)[A-Za-z]+)`").FindAllSubmatch(page, -1)
	for _, n := range names {
		if !strings.Contains(tests, "func "+string(n[1])+"(") {
			t.Errorf("there is no %s", n[1])
		}
	}
	for _, n := range regexp.MustCompile(`, "([^"]+)"`).FindAllSubmatch(page, -1) {
		if !strings.Contains(tests, `"`+string(n[1])+`"`) {
			t.Errorf("there is no case %q", n[1])
		}
	}
	all, err := situations.All()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, s := range all {
		known[s.Name] = true
	}
	for _, list := range regexp.MustCompile("situations? (`[a-z-]+`(?:, `[a-z-]+`)*)").FindAllSubmatch(page, -1) {
		for _, n := range strings.Split(string(list[1]), ", ") {
			if !known[strings.Trim(n, "`")] {
				t.Errorf("there is no situation %s", n)
			}
		}
	}
	if len(names) < 20 {
		t.Errorf("the page names %d tests only", len(names))
	}
}

func testSources(t *testing.T, folders ...string) string {
	t.Helper()
	var b strings.Builder
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(text)
		}
	}
	return b.String()
}

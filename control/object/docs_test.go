package object

import (
	"os"
	"strings"
	"testing"
)

// documented is the objects of docs/objects.md: its indented blocks that begin with
// an apiVersion.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/objects.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	inside := ""
	for line := range strings.Lines(string(text)) {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "apiVersion:") && len(indent) >= 4:
			inside = indent
			out = append(out, line)
		case inside != "" && strings.HasPrefix(line, inside):
			out[len(out)-1] += line
		default:
			inside = ""
		}
	}
	return out
}

// The examples are right for themselves and together, and there is one of each kind.
func TestDocumentedObjects(t *testing.T) {
	docs := documented(t)
	seen := map[string]bool{}
	for _, doc := range docs {
		o := parseOne(t, doc)
		checkRoundTrips(t, o)
		seen[o.Kind().Name] = true
	}
	viewOf(t, strings.Join(docs, "---\n"))
	for _, k := range Kinds() {
		if !seen[k.Name] {
			t.Errorf("docs/objects.md has no example of a %s", k.Name)
		}
	}
}

// The table of kinds names all names.
func TestDocumentedNames(t *testing.T) {
	text, err := os.ReadFile("../../docs/objects.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds() {
		row := ""
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "| "+k.Written+" | "+k.APIVersion+" |") {
				row = line
			}
		}
		for _, name := range append([]string{k.Plural}, k.Short...) {
			if !strings.Contains(row, "`"+name+"`") {
				t.Errorf("docs/objects.md does not say that a %s is %s, too", k.Written, name)
			}
		}
		if k.Namespaced != strings.Contains(row, "| yes |") {
			t.Errorf("docs/objects.md has %s wrong", k.Written)
		}
	}
}

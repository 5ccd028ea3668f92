package natconf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	document    = "../../docs/conformance.md"
	beginMarker = "<!-- begin: written by go test ./lab/natconf -update -->\n"
	endMarker   = "<!-- end -->\n"
)

// TestDocumentSaysWhatIsExpected: TestNATConformance holds what is expected against
// what is, this holds the document against what is expected.
func TestDocumentSaysWhatIsExpected(t *testing.T) {
	expected := results{"ringway": {}, "nftables": {}}
	for i := range requirements {
		r := &requirements[i]
		expected["ringway"][r.id] = result{verdict: r.ringway}
		expected["nftables"][r.id] = result{verdict: r.nft}
	}
	want, err := render(expected)
	must(t, err)
	doc, err := os.ReadFile(document)
	must(t, err)
	_, rest, _ := bytes.Cut(doc, []byte(beginMarker))
	if got, _, found := bytes.Cut(rest, []byte(endMarker)); !found || string(got) != want {
		t.Errorf("%s is not what the requirements say: run `go test ./lab/natconf -update` as root", document)
	}
}

// writeDocument replaces the tables in the document by these results.
func writeDocument(got results) error {
	tables, err := render(got)
	if err != nil {
		return err
	}
	doc, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	head, rest, begins := bytes.Cut(doc, []byte(beginMarker))
	_, tail, ends := bytes.Cut(rest, []byte(endMarker))
	if !begins || !ends {
		return fmt.Errorf("%s has no markers around its tables", document)
	}
	return os.WriteFile(document, fmt.Appendf(nil, "%s%s%s%s%s", head, beginMarker, tables, endMarker, tail), 0o644)
}

// render is the results as tables.
func render(got results) (string, error) {
	var b strings.Builder
	summary(&b, got)
	for _, g := range groups {
		fmt.Fprintf(&b, "\n### %s\n\n| | | demand | Ringway | nftables | test |\n|---|---|---|---|---|---|\n", g.title)
		for i := range g.requirements {
			r := &g.requirements[i]
			ringway, tried := got["ringway"][r.id]
			nft, alsoTried := got["nftables"][r.id]
			if !tried || !alsoTried || ringway.err != nil || nft.err != nil {
				return "", errors.New("not everything was tried: there is nothing to write down")
			}
			short := strings.TrimPrefix(strings.TrimPrefix(r.id, g.title[:strings.Index(g.title+":", ":")]), " ")
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | [%s](../lab/natconf/%s) |\n", short, r.level, r.demand,
				cell(ringway.verdict, r.option, r.why), cell(nft.verdict, r.option, r.nftNotes), r.name(), g.file)
		}
	}
	b.WriteString("\n")
	return b.String(), nil
}

// summary counts what is met.
func summary(b *strings.Builder, got results) {
	b.WriteString("| | Ringway | nftables |\n|---|---|---|\n")
	for _, level := range []string{"MUST", "SHOULD", "MAY", ""} {
		fmt.Fprintf(b, "| %s", cmp.Or(level, "beyond the RFCs"))
		for _, device := range []string{"ringway", "nftables"} {
			count := map[verdict]int{}
			of := 0
			for i := range requirements {
				if r := &requirements[i]; r.level == level {
					count[got[device][r.id].verdict]++
					of++
				}
			}
			fmt.Fprintf(b, " | %d of %d met", count[met], of)
			if count[byOption] > 0 {
				fmt.Fprintf(b, ", %d by option", count[byOption])
			}
		}
		b.WriteString(" |\n")
	}
}

func cell(v verdict, o option, why string) string {
	switch v {
	case byOption:
		if why != "" {
			why = ": " + why
		}
		return fmt.Sprintf("by option (%s)%s", o, why)
	case notMet:
		return fmt.Sprintf("**not met**: %s", why)
	}
	return string(v)
}

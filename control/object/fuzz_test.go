package object

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ringway/control"
)

// FuzzDecode: whatever people hand in is refused with Problems, or says the same when
// it is kept and read again.
func FuzzDecode(f *testing.F) {
	for _, doc := range everyKind {
		f.Add([]byte(doc))
	}
	for _, c := range badDocuments {
		f.Add([]byte(c.doc))
	}
	files, _ := filepath.Glob("testdata/networkpolicy/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		docs, err := Parse(stream)
		if err != nil {
			checkProblems(t, err)
			return
		}
		for _, d := range docs {
			o, err := Decode(d)
			if err != nil {
				checkProblems(t, err)
				continue
			}
			checkRoundTrips(t, o)
			if err := Admit(mapView{}, o); err != nil {
				checkProblems(t, err)
			}
		}
	})
}

func checkProblems(t *testing.T, err error) {
	t.Helper()
	var ps control.Problems
	if !errors.As(err, &ps) || len(ps) == 0 || len(ps) > maxProblems {
		t.Fatalf("%T: %v", err, err)
	}
	for _, p := range ps {
		if p.Field == "" || p.Reason == "" || p.Remedy == "" || len(p.Error()) > 2000 || bytes.ContainsRune([]byte(p.Error()), '\n') {
			t.Fatalf("%q", p)
		}
	}
}

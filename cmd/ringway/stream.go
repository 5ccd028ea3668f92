package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// itemStream prints items one by one just as output.write prints a message of
// all of them.
type itemStream struct {
	w     *bufio.Writer
	as    output
	begun bool
}

func newItemStream(w io.Writer, as output) *itemStream {
	return &itemStream{w: bufio.NewWriter(w), as: as}
}

func (s *itemStream) item(m proto.Message) error {
	b, err := compactJSON(m)
	if err != nil {
		return err
	}
	if s.as == "yaml" {
		return s.yaml(b)
	}
	return s.json(b)
}

func (s *itemStream) json(item []byte) error {
	before := ",\n    "
	if !s.begun {
		before = "{\n  \"items\": [\n    "
	}
	s.begun = true
	var out bytes.Buffer
	if err := json.Indent(&out, item, "    ", "  "); err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	fmt.Fprint(s.w, before)
	_, err := out.WriteTo(s.w)
	return err
}

func (s *itemStream) yaml(item []byte) error {
	list, err := yaml.JSONToYAML(fmt.Appendf(nil, "[%s]", item))
	if err != nil {
		return fmt.Errorf("write as YAML: %w", err)
	}
	if !s.begun {
		fmt.Fprint(s.w, "items:\n")
	}
	s.begun = true
	_, err = s.w.Write(list)
	return err
}

// end is for a listing that is complete.
func (s *itemStream) end() error {
	switch {
	case s.as == "yaml" && !s.begun:
		fmt.Fprint(s.w, "items: []\n")
	case s.as == "yaml":
	case !s.begun:
		fmt.Fprint(s.w, "{\n  \"items\": []\n}\n")
	default:
		fmt.Fprint(s.w, "\n  ]\n}\n")
	}
	return s.w.Flush()
}

// sampleRows is how many rows a rowStream looks at before it prints.
const sampleRows = 1000

// rowStream prints rows in columns as they come, where a table keeps all until
// it knows how wide they are. The first rows tell; a later cell that is wider
// widens its column from there on.
type rowStream struct {
	w      *bufio.Writer
	keep   int
	sample [][]string // not printed yet
	widths []int      // nil: the sample is not printed
}

// newRowStream takes headers as newTable does.
func newRowStream(w io.Writer, wide bool, headers ...string) *rowStream {
	shown, keep := shownColumns(wide, headers)
	return &rowStream{w: bufio.NewWriter(w), keep: keep, sample: [][]string{shown}}
}

// empty is true while there was no row.
func (s *rowStream) empty() bool { return s.widths == nil && len(s.sample) == 1 }

// row takes all columns, those for wide output included.
func (s *rowStream) row(cells ...any) error {
	row := shownCells(s.keep, cells)
	if s.widths != nil {
		return s.print(row)
	}
	s.sample = append(s.sample, row)
	if len(s.sample) > sampleRows {
		return s.printSample()
	}
	return nil
}

func (s *rowStream) printSample() error {
	s.widths = make([]int, len(s.sample[0]))
	for _, row := range s.sample {
		s.widen(row)
	}
	for _, row := range s.sample {
		if err := s.print(row); err != nil {
			return err
		}
	}
	s.sample = nil
	return nil
}

func (s *rowStream) widen(row []string) {
	for i, cell := range row {
		s.widths[i] = max(s.widths[i], utf8.RuneCountInString(cell))
	}
}

func (s *rowStream) print(row []string) error {
	s.widen(row)
	last := len(row) - 1
	for i, cell := range row[:last] {
		fmt.Fprintf(s.w, "%-*s", s.widths[i]+gap, cell)
	}
	_, err := fmt.Fprintln(s.w, row[last])
	return err
}

// end prints what is left, also of a listing that failed halfway.
func (s *rowStream) end() error {
	if s.widths == nil {
		if err := s.printSample(); err != nil {
			return err
		}
	}
	return s.w.Flush()
}

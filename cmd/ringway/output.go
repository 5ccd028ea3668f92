package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// output is the flag -o.
type output string

func (o *output) flag(c *cobra.Command) {
	c.Flags().StringVarP((*string)(o), "output", "o", "", "json, yaml or wide")
}

// check is for before the work starts.
func (o output) check() error {
	switch o {
	case "", "json", "yaml", "wide":
		return nil
	}
	return usagef("-o %s is not known: write json, yaml or wide", string(o))
}

func (o output) wide() bool { return o == "wide" }

// structured is output for programs.
func (o output) structured() bool { return o == "json" || o == "yaml" }

// write prints m as the user asked, or by text where it is to be read.
func (o output) write(w io.Writer, m proto.Message, text func(io.Writer) error) error {
	if !o.structured() {
		return text(w)
	}
	b, err := compactJSON(m)
	if err != nil {
		return err
	}
	if o == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("write as YAML: %w", err)
		}
		_, err = w.Write(b)
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(w)
	return err
}

// compactJSON is m without spaces, which protojson varies on purpose. Zeros are
// printed: a script must not have to know which fields are left out where.
func compactJSON(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write as JSON: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, fmt.Errorf("write as JSON: %w", err)
	}
	return out.Bytes(), nil
}

// gap is the spaces between two columns.
const gap = 3

// table writes rows in columns.
type table struct {
	w    *tabwriter.Writer
	keep int
}

// newTable begins a table. The columns after a header of "|" are for wide
// output only.
func newTable(w io.Writer, indent string, wide bool, headers ...string) *table {
	shown, keep := shownColumns(wide, headers)
	t := &table{w: tabwriter.NewWriter(w, 0, 0, gap, ' ', 0), keep: keep}
	shown[0] = indent + shown[0]
	t.line(shown)
	return t
}

// row takes all columns, those for wide output included.
func (t *table) row(cells ...any) { t.line(shownCells(t.keep, cells)) }

// shownColumns returns the headers to show and how many columns of a row; -1
// is all.
func shownColumns(wide bool, headers []string) (shown []string, keep int) {
	for i, h := range headers {
		if h != "|" {
			shown = append(shown, h)
		} else if !wide {
			return shown, i
		}
	}
	return shown, -1
}

func shownCells(keep int, cells []any) []string {
	if keep >= 0 {
		cells = cells[:keep]
	}
	out := make([]string, len(cells))
	for i, c := range cells {
		if out[i] = fmt.Sprint(c); out[i] == "" {
			out[i] = "-"
		}
	}
	return out
}

// line drops the padding after the last cell that tabwriter would write for a
// trailing tab.
func (t *table) line(cells []string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t *table) end() error { return t.w.Flush() }

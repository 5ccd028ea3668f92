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

// write prints m as the user asked, or by text where it is to be read.
func (o output) write(w io.Writer, m proto.Message, text func(io.Writer) error) error {
	if o != "json" && o != "yaml" {
		return text(w)
	}
	// Zeros are printed: a script must not have to know which fields are left
	// out where.
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	if o == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("write as YAML: %w", err)
		}
		_, err = w.Write(b)
		return err
	}
	// protojson varies its spaces on purpose; Compact and Indent take that out.
	var compact, out bytes.Buffer
	if err := json.Compact(&compact, b); err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(w)
	return err
}

// table writes rows in columns. The columns after a header of "|" are for wide
// output only.
type table struct {
	w    *tabwriter.Writer
	keep int // columns that are shown; -1: all
}

func newTable(w io.Writer, indent string, wide bool, headers ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 3, ' ', 0), keep: -1}
	shown := headers[:0:0]
	for i, h := range headers {
		if h != "|" {
			shown = append(shown, h)
		} else if !wide {
			t.keep = i
			break
		}
	}
	shown[0] = indent + shown[0]
	t.line(shown)
	return t
}

// row takes all columns, those for wide output included.
func (t *table) row(cells ...any) {
	if t.keep >= 0 {
		cells = cells[:t.keep]
	}
	out := make([]string, len(cells))
	for i, c := range cells {
		if out[i] = fmt.Sprint(c); out[i] == "" {
			out[i] = "-"
		}
	}
	t.line(out)
}

// line drops the padding after the last cell that tabwriter would write for a
// trailing tab.
func (t *table) line(cells []string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t *table) end() error { return t.w.Flush() }

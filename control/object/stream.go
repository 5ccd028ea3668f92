package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"

	"ringway/control"
)

// Bounds of what people hand in.
const (
	MaxStreamBytes = 16 << 20 // of one call of Parse
	MaxDocuments   = 16384    // in one stream, items of lists counted
	// MaxObjectBytes is of one object as JSON: etcd takes requests of 1.5 MiB.
	MaxObjectBytes = 1 << 20
)

// Document is one object as it was written. It is not known yet whether it is one.
type Document struct {
	Line int    // where it begins, from 1
	tree any    // as encoding/json has it, with json.Number
	json []byte // the same
}

// JSON is the document in one line.
func (d Document) JSON() []byte { return d.json }

// Parse cuts YAML documents, or one or more of JSON, apart. Items of a List are
// documents of their own, and documents without content are none. Errors are
// control.Problems and name lines.
func Parse(docs []byte) ([]Document, error) {
	if len(docs) > MaxStreamBytes {
		return nil, lineProblem(1, fmt.Sprintf("%d bytes are too many", len(docs)), fmt.Sprintf("keep to %d at a time", MaxStreamBytes))
	}
	d, b := yaml.NewDecoder(bytes.NewReader(docs)), newTreeBuilder(len(docs))
	var out []Document
	for count := 1; ; count++ {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, yamlProblem(err)
		}
		if count > MaxDocuments {
			return nil, tooMany(n.Line) // though there may be nothing in some
		}
		for _, root := range roots(&n) {
			if len(out) == MaxDocuments {
				return nil, tooMany(root.Line)
			}
			doc, err := b.document(root)
			if err != nil {
				return nil, err
			}
			out = append(out, doc)
		}
	}
}

func tooMany(line int) error {
	return lineProblem(line, fmt.Sprintf("there are more than %d objects", MaxDocuments), "hand the rest in separately")
}

func (b *treeBuilder) document(root *yaml.Node) (Document, error) {
	tree, err := b.tree(root)
	if err != nil {
		return Document{}, err
	}
	text, err := encode(tree)
	if err != nil {
		return Document{}, lineProblem(root.Line, err.Error(), "write it as JSON could have it")
	}
	if len(text) > MaxObjectBytes {
		return Document{}, tooLarge(root.Line)
	}
	return Document{root.Line, tree, text}, nil
}

func tooLarge(line int) error {
	return lineProblem(line, fmt.Sprintf("the object is larger than %d bytes or %d values", MaxObjectBytes, maxValues), "divide it")
}

// roots is the objects of one YAML document.
func roots(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.DocumentNode {
		if len(n.Content) == 0 {
			return nil
		}
		n = n.Content[0]
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil
	}
	if items := listItems(n); items != nil {
		return items.Content
	}
	return []*yaml.Node{n}
}

// listItems is the items of a List, as kubectl get writes one; nil for anything else.
func listItems(n *yaml.Node) *yaml.Node {
	kind, items := valueOf(n, "kind"), valueOf(n, "items")
	if kind == nil || kind.Value != "List" || items == nil || items.Kind != yaml.SequenceNode {
		return nil
	}
	return items
}

// valueOf is the value of a key of a mapping, nil where there is none.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func lineProblem(line int, reason, remedy string) error {
	return control.Problems{{Field: fmt.Sprintf("line %d", line), Reason: reason, Remedy: remedy}}
}

func yamlProblem(err error) error {
	var e *yaml.LoadError
	if errors.As(err, &e) && e.Mark.Line > 0 {
		return lineProblem(e.Mark.Line, e.Message, "correct the YAML there")
	}
	return control.Problems{{Field: "document", Reason: strings.TrimPrefix(err.Error(), "yaml: "), Remedy: "write it as YAML"}}
}

// encode is v in one line of JSON.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

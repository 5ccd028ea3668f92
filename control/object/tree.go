package object

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Bounds of a document.
const (
	maxDepth  = 64
	maxValues = 1 << 18
)

// Aliases make much of little: what all of a stream may be more than it was written
// with.
const (
	aliasedValues = 1 << 16
	aliasedBytes  = 1 << 18
)

// treeBuilder makes of YAML nodes what encoding/json would have made of them.
type treeBuilder struct {
	root             *yaml.Node
	values, bytes    int // of the document
	valuesLeft, left int // of the stream
}

// newTreeBuilder is for a stream of that many bytes: each value takes one at least.
func newTreeBuilder(size int) *treeBuilder {
	return &treeBuilder{valuesLeft: size + aliasedValues, left: size + aliasedBytes}
}

func (b *treeBuilder) tree(root *yaml.Node) (any, error) {
	b.root, b.values, b.bytes = root, 0, 0
	return b.value(root, 0)
}

// take counts a value or key.
func (b *treeBuilder) take(n *yaml.Node) error {
	b.values++
	b.bytes += len(n.Value)
	b.valuesLeft--
	b.left -= len(n.Value)
	switch {
	case b.valuesLeft < 0 || b.left < 0:
		return lineProblem(b.root.Line, "aliases make too much of it", "write out what they stand for")
	case b.values > maxValues || b.bytes > MaxObjectBytes:
		return tooLarge(b.root.Line)
	}
	return nil
}

func (b *treeBuilder) value(n *yaml.Node, depth int) (any, error) {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	if depth > maxDepth {
		return nil, lineProblem(n.Line, fmt.Sprintf("it is nested deeper than %d", maxDepth), "no object is")
	}
	if err := b.take(n); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.MappingNode:
		return b.mapping(n, depth)
	case yaml.SequenceNode:
		return b.list(n, depth)
	default:
		return scalar(n)
	}
}

func (b *treeBuilder) list(n *yaml.Node, depth int) (any, error) {
	out := make([]any, 0, min(len(n.Content), maxValues))
	for _, entry := range n.Content {
		v, err := b.value(entry, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (b *treeBuilder) mapping(n *yaml.Node, depth int) (any, error) {
	out := map[string]any{}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		first, twice := lines[key.Value]
		switch {
		case key.ShortTag() == "!!merge":
			return nil, lineProblem(key.Line, "merge keys are not taken", "write the keys out")
		case key.Kind != yaml.ScalarNode:
			return nil, lineProblem(key.Line, "a key is a mapping or list", "write a word")
		case !utf8.ValidString(key.Value):
			return nil, notText(key)
		case twice:
			return nil, lineProblem(key.Line, fmt.Sprintf("%.80s is also on line %d", key.Value, first), "write the key once")
		}
		lines[key.Value] = key.Line
		if err := b.take(key); err != nil {
			return nil, err
		}
		v, err := b.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		out[key.Value] = v
	}
	return out, nil
}

// scalar keeps numbers as they were written where JSON has them so.
func scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var v bool
		if err := n.Decode(&v); err != nil {
			return nil, yamlProblem(err)
		}
		return v, nil
	case "!!int", "!!float":
		return number(n)
	default:
		if !utf8.ValidString(n.Value) {
			return nil, notText(n)
		}
		return n.Value, nil
	}
}

func number(n *yaml.Node) (any, error) {
	if json.Valid([]byte(n.Value)) {
		return json.Number(n.Value), nil
	}
	var i int64
	if n.ShortTag() == "!!int" && n.Decode(&i) == nil {
		return json.Number(strconv.FormatInt(i, 10)), nil
	}
	var f float64
	if err := n.Decode(&f); err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, lineProblem(n.Line, fmt.Sprintf("%.80s is no number here", n.Value), "write digits, or a word in quotes")
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil
}

func notText(n *yaml.Node) error {
	return lineProblem(n.Line, "what is there is no text", "write it in UTF-8")
}

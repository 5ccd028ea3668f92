package nat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

const (
	lrpAPIVersion = "cilium.io/v2"
	lrpKind       = "CiliumLocalRedirectPolicy"

	// NodeAddressAnnotation makes an address of the node the backend of a
	// CiliumLocalRedirectPolicy, whose localEndpointSelector is {} or left out then.
	// Cilium has nothing like it.
	NodeAddressAnnotation = "ringway.io/node-address"
	annotationPrefix      = "ringway.io/"
)

// maxLRPProblems bounds what one refusal reports.
const maxLRPProblems = 10

// ParseRedirects reads CiliumLocalRedirectPolicy manifests (cilium.io/v2), any
// number of YAML documents or one of JSON. A document that is wrong has the whole
// refused; each line of the error begins with from, if there is one, and the line
// of the file, names the field, says what is wrong there and what to write
// instead. from is where doc comes from, for people.
func ParseRedirects(doc []byte, from string) ([]RedirectSpec, error) {
	specs, err := parseLRPs(doc, from)
	if err != nil {
		return nil, err
	}
	if err := checkTogether(specs); err != nil {
		return nil, err
	}
	return specs, nil
}

// parseLRPs looks at each policy for itself.
func parseLRPs(doc []byte, from string) ([]RedirectSpec, error) {
	roots, err := documents(doc)
	if err != nil && from != "" {
		err = fmt.Errorf("%s: %w", from, err)
	}
	if err != nil {
		return nil, err
	}
	var specs []RedirectSpec
	var problems []error
	for _, root := range roots {
		p := lrpParser{from: from, lines: map[string]int{"": root.Line}}
		spec := p.policy(root)
		problems = append(problems, p.problems...)
		if len(problems) >= maxLRPProblems {
			break
		}
		specs = append(specs, spec)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems[:min(len(problems), maxLRPProblems)]...)
	}
	return specs, nil
}

// documents are the roots of the documents of doc that have content.
func documents(doc []byte) ([]*yaml.Node, error) {
	if err := textProblem(doc); err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(doc))
	var roots []*yaml.Node
	for {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return nil, yamlProblem(err)
		}
		if root := n.Content[0]; !isNull(root) {
			roots = append(roots, root)
		}
		if len(roots) > MaxRedirects {
			return nil, fmt.Errorf("line %d: there are more than %d documents: put an end to it before", n.Line, MaxRedirects)
		}
	}
}

// checkTogether refuses two policies of one name or frontend.
func checkTogether(specs []RedirectSpec) error {
	if len(specs) > MaxRedirects {
		return fmt.Errorf("%s: %d redirects are too many: keep to %d", specs[MaxRedirects].From, len(specs), MaxRedirects)
	}
	var problems []error
	byID := map[string]int{}
	for i := range specs {
		s := &specs[i]
		if first, ok := byID[s.ID()]; ok {
			problems = append(problems, fmt.Errorf("%s: metadata.name: %s is also at %s: give each redirect a name of its own", s.From, s.ID(), specs[first].From))
			continue
		}
		byID[s.ID()] = i
		for j := range specs[:i] {
			if both := s.Clash(&specs[j]); both != "" {
				problems = append(problems, fmt.Errorf("%s: spec.redirectFrontend: %s is also redirected by %s at %s: keep one of them", s.From, both, specs[j].ID(), specs[j].From))
				break
			}
		}
	}
	return errors.Join(problems[:min(len(problems), maxLRPProblems)]...)
}

// lrpParser reads one policy.
type lrpParser struct {
	from     string
	lines    map[string]int // of fields, by their path
	problems []error
}

// at is where a line is, for people.
func (p *lrpParser) at(line int) string {
	if p.from == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("%s: line %d", p.from, line)
}

func (p *lrpParser) refuse(line int, path, reason, remedy string) {
	if path == "" {
		path = "document"
	}
	p.problems = append(p.problems, fmt.Errorf("%s: %s: %s: %s", p.at(line), path, reason, remedy))
}

func (p *lrpParser) policy(root *yaml.Node) RedirectSpec {
	if !p.isPolicy(root) {
		return RedirectSpec{}
	}
	var m RedirectManifest
	p.fields(root, "",
		field{"apiVersion", nil}, field{"kind", nil},
		field{"metadata", func(n *yaml.Node, path string) { p.metadata(n, path, &m) }},
		field{"spec", func(n *yaml.Node, path string) { p.spec(n, path, &m) }},
		field{"status", nil})
	if len(p.problems) > 0 {
		return RedirectSpec{}
	}
	spec, problems := m.Spec()
	for _, q := range problems {
		path := lrpPath(q.Field)
		p.refuse(p.line(path), path, q.Reason, q.Remedy)
	}
	spec.From = p.at(root.Line)
	return spec
}

// isPolicy looks at what the document is before it looks for fields.
func (p *lrpParser) isPolicy(root *yaml.Node) bool {
	if root.Kind != yaml.MappingNode {
		p.refuse(root.Line, "", describe(root)+" is not a mapping", "write key: value lines")
		return false
	}
	for _, want := range []struct{ key, value string }{{"apiVersion", lrpAPIVersion}, {"kind", lrpKind}} {
		n := valueOf(root, want.key)
		switch {
		case n == nil:
			p.refuse(root.Line, want.key, "missing", "write "+want.value)
		case n.Kind != yaml.ScalarNode || n.Value != want.value:
			p.refuse(n.Line, want.key, describe(n)+" is not known here", "write "+want.value+", or take the document out")
		default:
			continue
		}
		return false
	}
	return true
}

// valueOf is the value of a key of a mapping, nil where there is none.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

// lrpPath is where a policy has a field that Spec names.
func lrpPath(field string) string {
	switch field {
	case "name", "namespace":
		return "metadata." + field
	case nodeField:
		return "metadata.annotations." + NodeAddressAnnotation
	default:
		return "spec." + field
	}
}

// line is that of a field, or of what it should have been in.
func (p *lrpParser) line(path string) int {
	for {
		if line, ok := p.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// metadata takes what the API server adds, too.
func (p *lrpParser) metadata(n *yaml.Node, path string, m *RedirectManifest) {
	p.fields(n, path,
		field{"name", p.text(&m.Name)}, field{"namespace", p.text(&m.Namespace)},
		field{"annotations", func(n *yaml.Node, path string) { p.annotations(n, path, m) }},
		field{"labels", nil}, field{"uid", nil}, field{"resourceVersion", nil}, field{"generation", nil},
		field{"creationTimestamp", nil}, field{"managedFields", nil}, field{"ownerReferences", nil}, field{"finalizers", nil})
}

// annotations of others are none of our business.
func (p *lrpParser) annotations(n *yaml.Node, path string, m *RedirectManifest) {
	all := map[string]string{}
	p.strings(n, path, &all)
	m.NodeAddress = all[NodeAddressAnnotation]
	for _, k := range slices.Sorted(maps.Keys(all)) {
		switch {
		case k == NodeAddressAnnotation && all[k] == "":
			p.refuse(p.line(join(path, k)), join(path, k), "it is empty", "write an address, or take it out")
		case k == NodeAddressAnnotation:
		case strings.HasPrefix(k, annotationPrefix):
			p.refuse(p.line(join(path, k)), path, fmt.Sprintf("%.80q is not known", k), "write "+NodeAddressAnnotation)
		}
	}
}

func (p *lrpParser) spec(n *yaml.Node, path string, m *RedirectManifest) {
	p.fields(n, path,
		field{"redirectFrontend", func(n *yaml.Node, path string) { p.frontend(n, path, m) }},
		field{"redirectBackend", func(n *yaml.Node, path string) { p.backend(n, path, m) }},
		field{"skipRedirectFromBackend", p.boolean(&m.SkipRedirectFromBackend)},
		field{"description", p.text(&m.Description)})
}

func (p *lrpParser) frontend(n *yaml.Node, path string, m *RedirectManifest) {
	p.fields(n, path,
		field{"addressMatcher", func(n *yaml.Node, path string) {
			m.AddressMatcher = &AddressMatcher{}
			p.fields(n, path, field{"ip", p.text(&m.AddressMatcher.IP)}, field{"toPorts", p.ports(&m.AddressMatcher.ToPorts)})
		}},
		field{"serviceMatcher", func(n *yaml.Node, path string) {
			m.ServiceMatcher = &ServiceMatcher{}
			p.fields(n, path, field{"serviceName", p.text(&m.ServiceMatcher.ServiceName)}, field{"namespace", p.text(&m.ServiceMatcher.Namespace)},
				field{"toPorts", p.ports(&m.ServiceMatcher.ToPorts)})
		}})
}

func (p *lrpParser) backend(n *yaml.Node, path string, m *RedirectManifest) {
	p.fields(n, path,
		field{"localEndpointSelector", func(n *yaml.Node, path string) {
			m.LocalEndpointSelector = &Selector{}
			p.selector(n, path, m.LocalEndpointSelector)
		}},
		field{"toPorts", p.ports(&m.BackendPorts)})
}

func (p *lrpParser) selector(n *yaml.Node, path string, s *Selector) {
	p.fields(n, path,
		field{"matchLabels", func(n *yaml.Node, path string) { p.strings(n, path, &s.MatchLabels) }},
		field{"matchExpressions", func(n *yaml.Node, path string) {
			p.list(n, path, maxSelectorTerms, func(n *yaml.Node, path string) {
				var e LabelRequirement
				p.fields(n, path, field{"key", p.text(&e.Key)}, field{"operator", p.text(&e.Operator)}, field{"values", p.texts(&e.Values)})
				s.MatchExpressions = append(s.MatchExpressions, e)
			})
		}})
}

func (p *lrpParser) ports(out *[]PortInfo) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		p.list(n, path, maxRedirectPorts, func(n *yaml.Node, path string) {
			var i PortInfo
			p.fields(n, path, field{"port", p.text(&i.Port)}, field{"protocol", p.text(&i.Protocol)}, field{"name", p.text(&i.Name)})
			*out = append(*out, i)
		})
	}
}

// field is a key that a mapping may have and what reads its value; nil: nobody
// does.
type field struct {
	name string
	read func(value *yaml.Node, path string)
}

// fields reads a mapping. Null is as good as left out.
func (p *lrpParser) fields(n *yaml.Node, path string, known ...field) {
	p.mapping(n, path, func(key, value *yaml.Node) {
		i := slices.IndexFunc(known, func(f field) bool { return f.name == key.Value })
		if i < 0 {
			p.refuse(key.Line, join(path, key.Value), "unknown field", suggest(key.Value, known))
			return
		}
		if known[i].read != nil && !isNull(value) {
			known[i].read(value, join(path, key.Value))
		}
	})
}

// mapping calls each for the entries of a mapping.
func (p *lrpParser) mapping(n *yaml.Node, path string, each func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.refuse(n.Line, path, describe(n)+" is not a mapping", "write key: value lines")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content) && len(p.problems) < maxLRPProblems; i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		first, twice := seen[key.Value]
		switch {
		case key.ShortTag() == "!!merge":
			p.refuse(key.Line, path, "merge keys are not taken", "write the keys out")
		case key.Kind != yaml.ScalarNode:
			p.refuse(key.Line, path, describe(key)+" is not a key", "write a word")
		case twice:
			p.refuse(key.Line, join(path, key.Value), fmt.Sprintf("it is also on line %d", first), "write the key once")
		default:
			seen[key.Value] = key.Line
			p.lines[join(path, key.Value)] = key.Line
			each(key, value)
		}
	}
}

func (p *lrpParser) list(n *yaml.Node, path string, limit int, each func(n *yaml.Node, path string)) {
	if n.Kind != yaml.SequenceNode {
		p.refuse(n.Line, path, describe(n)+" is not a list", `write one "- " entry each`)
		return
	}
	if len(n.Content) > limit {
		p.refuse(n.Line, path, fmt.Sprintf("%d entries are too many", len(n.Content)), fmt.Sprintf("keep to %d", limit))
		return
	}
	for i, entry := range n.Content {
		path := fmt.Sprintf("%s[%d]", path, i)
		p.lines[path] = entry.Line
		each(resolve(entry), path)
	}
}

// text reads a string. A number is none, as Kubernetes has it.
func (p *lrpParser) text(out *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		switch {
		case n.Kind != yaml.ScalarNode:
			p.refuse(n.Line, path, describe(n)+" is not a string", "write a word")
		case n.ShortTag() != "!!str":
			p.refuse(n.Line, path, describe(n)+" is not a string", fmt.Sprintf("write %.80q, in quotes", n.Value))
		default:
			*out = n.Value
		}
	}
}

func (p *lrpParser) texts(out *[]string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		p.list(n, path, maxSelectorValues, func(n *yaml.Node, path string) {
			var s string
			p.text(&s)(n, path)
			*out = append(*out, s)
		})
	}
}

// strings reads a mapping of strings.
func (p *lrpParser) strings(n *yaml.Node, path string, out *map[string]string) {
	*out = map[string]string{}
	p.mapping(n, path, func(key, value *yaml.Node) {
		var s string
		p.text(&s)(value, join(path, key.Value))
		(*out)[key.Value] = s
	})
}

func (p *lrpParser) boolean(out *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(out) != nil {
			p.refuse(n.Line, path, describe(n)+" is not a boolean", "write true or false")
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return keyName(key)
	}
	return path + "." + keyName(key)
}

// keyName is a key in a path, in bounded length and on one line.
func keyName(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%.80q", key)
	}
	return fmt.Sprintf("%.80s", key)
}

// suggest is the remedy for an unknown key.
func suggest(key string, known []field) string {
	names := make([]string, len(known))
	for i, f := range known {
		if strings.EqualFold(f.name, key) {
			return "write " + f.name
		}
		names[i] = f.name
	}
	return "known here: " + strings.Join(names, ", ")
}

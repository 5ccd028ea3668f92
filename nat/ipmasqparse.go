package nat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxIPMasqProblems bounds what one refusal reports.
const maxIPMasqProblems = 10

// ParseIPMasq reads the content of an ip-masq-agent file, YAML or JSON. A file
// that is wrong is refused whole; each line of the error begins with the line of
// the file, says what is wrong there and what to write instead.
func ParseIPMasq(doc []byte, profile Profile) (IPMasq, error) {
	if profile != ProfileCilium && profile != ProfileUpstream {
		return IPMasq{}, fmt.Errorf("profile %q of the ip-masq-agent file is not known: choose %s or %s", profile, ProfileCilium, ProfileUpstream)
	}
	p := ipmasqParser{out: DefaultIPMasq(profile), limit: maxIPMasqCIDRs, seen: map[string]int{}}
	if len(doc) == 0 {
		return p.out, nil
	}
	if profile == ProfileCilium {
		p.out.NonMasqueradeCIDRs = nil
	} else {
		p.limit = 64
	}
	root, err := oneDocument(doc)
	if err != nil {
		return IPMasq{}, err
	}
	p.document(root)
	if len(p.problems) > 0 {
		return IPMasq{}, errors.Join(p.problems[:min(len(p.problems), maxIPMasqProblems)]...)
	}
	return p.out, nil
}

// oneDocument is the root of the only document of doc; nil where it has no
// content.
func oneDocument(doc []byte) (*yaml.Node, error) {
	if err := textProblem(doc); err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(doc))
	var first, second yaml.Node
	err := d.Decode(&first)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, yamlProblem(err)
	}
	switch err := d.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("line %d: a second YAML document starts: keep one document in the file", second.Line)
	case !errors.Is(err, io.EOF):
		return nil, yamlProblem(err)
	}
	return first.Content[0], nil
}

// textProblem is what YAML's reader would say without the line.
func textProblem(doc []byte) error {
	for i, line := range bytes.Split(doc, []byte("\n")) {
		if !utf8.Valid(line) || bytes.ContainsFunc(line, unprintable) {
			return fmt.Errorf("line %d: what is there is no text: write it in UTF-8", i+1)
		}
	}
	return nil
}

func unprintable(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\r' }

func yamlProblem(err error) error {
	var e *yaml.LoadError
	if errors.As(err, &e) && e.Mark.Line > 0 {
		return fmt.Errorf("line %d: %s: correct the YAML there", e.Mark.Line, e.Message)
	}
	return fmt.Errorf("the document: %s: write it as YAML", strings.TrimPrefix(err.Error(), "yaml: "))
}

type ipmasqParser struct {
	out      IPMasq
	limit    int // entries of nonMasqueradeCIDRs
	seen     map[string]int
	problems []error
}

func (p *ipmasqParser) refuse(line int, format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...)))
}

func (p *ipmasqParser) note(line int, format string, args ...any) {
	p.out.Notes = append(p.out.Notes, fmt.Sprintf("line %d: %s", line, fmt.Sprintf(format, args...)))
}

// document takes null for an empty mapping, as the peers' decoder does.
func (p *ipmasqParser) document(root *yaml.Node) {
	if root == nil || isNull(root) {
		return
	}
	if root.Kind != yaml.MappingNode {
		p.refuse(root.Line, "%s is not a mapping: write key: value lines", describe(root))
		return
	}
	line := root.Line
	for i := 0; i+1 < len(root.Content); i += 2 {
		name, value := root.Content[i], resolve(root.Content[i+1])
		p.key(name, value)
		if strings.EqualFold(name.Value, "cidrLimit") || strings.EqualFold(name.Value, "nonMasqueradeCIDRs") {
			line = name.Line
		}
	}
	if n := len(p.out.NonMasqueradeCIDRs); n > p.limit {
		p.refuse(line, "nonMasqueradeCIDRs has %d entries, the limit is %d: %s", n, p.limit, p.limitRemedy())
	}
}

func (p *ipmasqParser) limitRemedy() string {
	if p.out.Profile == ProfileUpstream {
		return "aggregate them, or raise cidrLimit"
	}
	return "aggregate them"
}

// key compares without case, as the peers' decoder does.
func (p *ipmasqParser) key(name, value *yaml.Node) {
	if name.ShortTag() == "!!merge" {
		p.refuse(name.Line, "merge keys are not taken: write the keys out")
		return
	}
	folded := strings.ToLower(name.Value)
	if first, ok := p.seen[folded]; ok {
		p.refuse(name.Line, "%.80q is also on line %d: write the key once", name.Value, first)
		return
	}
	p.seen[folded] = name.Line
	upstream := p.out.Profile == ProfileUpstream
	switch {
	case folded == "nonmasqueradecidrs":
		p.list(value)
	case folded == "masqlinklocal":
		p.out.MasqLinkLocal = p.boolean(name, value)
	case folded == "masqlinklocalipv6":
		if p.boolean(name, value) {
			p.note(name.Line, "masqLinkLocalIPv6 has no effect: IPv6 is not carried")
		}
	case folded == "cidrlimit" && upstream:
		p.cidrLimit(value)
	case folded == "resyncinterval" && upstream:
		p.resyncInterval(value)
	default:
		p.note(name.Line, "key %.80q has no meaning in profile %s and is ignored", name.Value, p.out.Profile)
	}
}

func (p *ipmasqParser) list(value *yaml.Node) {
	p.out.NonMasqueradeCIDRs = nil
	if isNull(value) {
		return
	}
	if value.Kind != yaml.SequenceNode {
		p.refuse(value.Line, "%s is not a list: write one \"- CIDR\" line each", describe(value))
		return
	}
	for _, entry := range value.Content {
		if len(p.problems) >= maxIPMasqProblems {
			return
		}
		p.entry(entry.Line, resolve(entry))
	}
}

// entry reports the line of the entry, even where its value is an alias.
func (p *ipmasqParser) entry(line int, n *yaml.Node) {
	prefix, err := netip.ParsePrefix(n.Value)
	switch {
	case isNull(n):
		p.refuse(line, "the entry is empty: fill it in or take it out")
	case n.Kind != yaml.ScalarNode:
		p.refuse(line, "%s is not a CIDR: write it as in 10.0.0.0/8", describe(n))
	case err != nil:
		p.badCIDR(line, n.Value)
	case !prefix.Addr().Is4():
		p.ipv6(line, prefix)
	case prefix != prefix.Masked() && p.out.Profile == ProfileUpstream:
		p.refuse(line, "%s has host bits set: write %s", prefix, prefix.Masked())
	default:
		if prefix != prefix.Masked() {
			p.note(line, "%s is taken as %s", prefix, prefix.Masked())
		}
		p.out.NonMasqueradeCIDRs = append(p.out.NonMasqueradeCIDRs, IPMasqCIDR{prefix.Masked(), line})
	}
}

func (p *ipmasqParser) badCIDR(line int, s string) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		p.refuse(line, "%s has no prefix length: write %s/32, or what it is to be", a, a)
		return
	}
	p.refuse(line, "%.80q is not a CIDR: write it as in 10.0.0.0/8", s)
}

func (p *ipmasqParser) ipv6(line int, prefix netip.Prefix) {
	if p.out.Profile == ProfileUpstream {
		p.refuse(line, "%s is IPv6, which is not enabled: take it out", prefix)
		return
	}
	p.note(line, "%s has no effect: IPv6 is not carried", prefix)
}

// yes and no are YAML 1.1's words, with which the peers' decoder was made.
var (
	yes = []string{"true", "yes", "on", "y"}
	no  = []string{"false", "no", "off", "n"}
)

func (p *ipmasqParser) boolean(name, value *yaml.Node) bool {
	if isNull(value) {
		return false
	}
	word := strings.ToLower(value.Value)
	plain := value.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	if value.Kind == yaml.ScalarNode && (plain || value.ShortTag() == "!!bool") {
		if slices.Contains(yes, word) {
			return true
		}
		if slices.Contains(no, word) {
			return false
		}
	}
	p.refuse(value.Line, "%s of %s is not a boolean: write true or false", describe(value), name.Value)
	return false
}

func (p *ipmasqParser) cidrLimit(value *yaml.Node) {
	if isNull(value) {
		return
	}
	var n int
	if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!int" || value.Decode(&n) != nil {
		p.refuse(value.Line, "%s of cidrLimit is not a whole number: write digits", describe(value))
		return
	}
	p.limit = min(n, maxIPMasqCIDRs)
}

func (p *ipmasqParser) resyncInterval(value *yaml.Node) {
	if value.Kind == yaml.ScalarNode && value.ShortTag() == "!!str" {
		if _, err := time.ParseDuration(value.Value); err == nil {
			return
		}
	}
	p.refuse(value.Line, "%s of resyncInterval is not a duration: write it as in 60s", describe(value))
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe is a value as its writer would recognise it, in bounded length.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("%.80q", n.Value)
	}
}

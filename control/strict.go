package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// What people write by hand is checked against a schema before it is decoded,
// because neither protojson nor encoding/json says where in the document the
// field is that it does not like, and protojson varies its wording on purpose.

type kind int

const (
	kindObject kind = iota // fields
	kindList               // elem
	kindMap                // elem, by free keys
	kindString
	kindBool
	kindInt // bits, signed
	kindIntOrString
	kindAny // nobody looks at it, nor is it named to people
)

// schema is the shape that a value must have.
type schema struct {
	kind   kind
	order  []string           // of an object's fields, as declared, without those of kindAny
	fields map[string]*schema // of an object
	elem   *schema            // of a list or map
	bits   int                // of an integer
	signed bool
}

// messageSchema is the shape of a message in protojson. The API's messages that
// are written by hand have no enums, bytes, floats or recursion.
func messageSchema(md protoreflect.MessageDescriptor) *schema {
	s := &schema{kind: kindObject, fields: map[string]*schema{}}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f := fieldSchema(fd)
		switch {
		case fd.IsMap():
			f = &schema{kind: kindMap, elem: fieldSchema(fd.MapValue())}
		case fd.IsList():
			f = &schema{kind: kindList, elem: f}
		}
		s.order = append(s.order, fd.JSONName())
		s.fields[fd.JSONName()] = f
	}
	return s
}

func fieldSchema(fd protoreflect.FieldDescriptor) *schema {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return messageSchema(fd.Message())
	case protoreflect.BoolKind:
		return &schema{kind: kindBool}
	case protoreflect.Uint32Kind:
		return &schema{kind: kindInt, bits: 32}
	case protoreflect.Uint64Kind:
		return &schema{kind: kindInt, bits: 64}
	default:
		return &schema{kind: kindString}
	}
}

// structSchema is the shape of a type in encoding/json. Every field of a struct
// has a json tag, and none is inlined.
func structSchema(t reflect.Type) *schema {
	switch t.Kind() {
	case reflect.Struct:
		if t == reflect.TypeFor[intstr.IntOrString]() {
			return &schema{kind: kindIntOrString}
		}
		return fieldsSchema(t)
	case reflect.Pointer:
		return structSchema(t.Elem())
	case reflect.Slice:
		return &schema{kind: kindList, elem: structSchema(t.Elem())}
	case reflect.Map:
		return &schema{kind: kindMap, elem: structSchema(t.Elem())}
	case reflect.Interface:
		return &schema{kind: kindAny}
	case reflect.Bool:
		return &schema{kind: kindBool}
	case reflect.Int, reflect.Int32:
		return &schema{kind: kindInt, bits: t.Bits(), signed: true}
	default:
		return &schema{kind: kindString}
	}
}

func fieldsSchema(t reflect.Type) *schema {
	s := &schema{kind: kindObject, fields: map[string]*schema{}}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		f := structSchema(t.Field(i).Type)
		s.fields[name] = f
		if f.kind != kindAny {
			s.order = append(s.order, name)
		}
	}
	return s
}

// decodeStrict turns one YAML (or JSON) document into JSON that has the shape
// s. A document without content is an empty object.
func decodeStrict(doc []byte, s *schema) ([]byte, error) {
	if err := oneDocument(doc); err != nil {
		return nil, err
	}
	out, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, yamlProblem(err)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.UseNumber() // a uint64 does not fit a float64
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, yamlProblem(err)
	}
	if v == nil {
		return []byte("{}"), nil
	}
	var ps Problems
	s.check("", v, &ps)
	return out, ps.err()
}

// oneDocument refuses what the decoder would pass over in silence: everything
// after the first document.
func oneDocument(doc []byte) error {
	content := 0
	for i, line := range bytes.Split(doc, []byte("\n")) {
		line = bytes.TrimRight(line, " \t\r")
		separator := bytes.Equal(line, []byte("---"))
		if separator && content > 0 {
			return Problems{{fmt.Sprintf("line %d", i+1), "a second YAML document starts", "keep one document in the file"}}
		}
		if !separator && len(line) > 0 && line[0] != '#' && line[0] != '%' {
			content++
		}
	}
	return nil
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

func yamlProblem(err error) error {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return Problems{{"document", strings.TrimPrefix(err.Error(), "yaml: "), "write it as YAML"}}
	}
	remedy := "correct the YAML there"
	if strings.Contains(m[2], "already set") {
		remedy = "write the key once"
	}
	return Problems{{"line " + m[1], m[2], remedy}}
}

// check reports where v, at path, does not have the shape s. Null is as good as
// left out.
func (s *schema) check(path string, v any, ps *Problems) {
	if v == nil || ps.full() {
		return
	}
	switch s.kind {
	case kindObject:
		s.checkObject(path, v, ps)
	case kindList:
		s.checkList(path, v, ps)
	case kindMap:
		s.checkMap(path, v, ps)
	case kindString:
		if _, ok := v.(string); !ok {
			ps.add(path, fmt.Sprintf("%s is not a string", show(v)), fmt.Sprintf("write %q, in quotes", show(v)))
		}
	case kindBool:
		if _, ok := v.(bool); !ok {
			ps.add(path, fmt.Sprintf("%s is not a boolean", show(v)), "write true or false")
		}
	case kindInt:
		s.checkInt(path, v, ps)
	case kindIntOrString:
		s.checkIntOrString(path, v, ps)
	}
}

func (s *schema) checkObject(path string, v any, ps *Problems) {
	m, ok := v.(map[string]any)
	if !ok {
		ps.add(pathOr(path, "document"), fmt.Sprintf("%s is not a mapping", show(v)), "write key: value lines; known here: "+strings.Join(s.order, ", "))
		return
	}
	for _, name := range sortedKeys(m) {
		if s.fields[name] == nil {
			ps.add(join(path, word(name)), "unknown field", s.suggest(name))
		}
	}
	for _, name := range s.order {
		s.fields[name].check(join(path, name), m[name], ps)
	}
}

func (s *schema) checkMap(path string, v any, ps *Problems) {
	m, ok := v.(map[string]any)
	if !ok {
		ps.add(path, fmt.Sprintf("%s is not a mapping", show(v)), "write key: value lines")
		return
	}
	for _, name := range sortedKeys(m) {
		s.checkEntry(join(path, word(name)), m[name], ps)
		if ps.full() {
			return
		}
	}
}

func (s *schema) checkEntry(path string, v any, ps *Problems) {
	if v == nil {
		ps.add(path, "the entry is empty", "fill it in or take it out")
		return
	}
	s.elem.check(path, v, ps)
}

func (s *schema) checkList(path string, v any, ps *Problems) {
	l, ok := v.([]any)
	if !ok {
		ps.add(path, fmt.Sprintf("%s is not a list", show(v)), "write a list, [a, b] or one \"- a\" line each")
		return
	}
	for i := range l {
		s.checkEntry(fmt.Sprintf("%s[%d]", path, i), l[i], ps)
		if ps.full() {
			return
		}
	}
}

// checkInt takes quoted digits too: protojson writes 64-bit integers so.
func (s *schema) checkInt(path string, v any, ps *Problems) {
	var err error
	if s.signed {
		_, err = strconv.ParseInt(show(v), 10, s.bits)
	} else {
		_, err = strconv.ParseUint(show(v), 10, s.bits)
	}
	if _, quoted := v.(string); err != nil || quoted && s.signed {
		what := "a whole number"
		if !s.signed {
			what = fmt.Sprintf("a whole number from 0 to 2^%d-1", s.bits)
		}
		ps.add(path, fmt.Sprintf("%s is not %s", show(v), what), "write digits, without quotes")
	}
}

func (s *schema) checkIntOrString(path string, v any, ps *Problems) {
	if _, ok := v.(string); ok {
		return
	}
	if _, err := strconv.ParseInt(show(v), 10, 32); err != nil {
		ps.add(path, fmt.Sprintf("%s is neither a whole number nor a name", show(v)), "write digits, or a name in quotes")
	}
}

// suggest is the remedy for an unknown field.
func (s *schema) suggest(name string) string {
	for _, known := range s.order {
		if plain(known) == plain(name) {
			return "write " + known
		}
	}
	return "known here: " + strings.Join(s.order, ", ")
}

// plain takes the differences in spelling away that people make: case and
// separators.
func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

// show is a value as its writer would recognise it, in bounded length.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return word(v)
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	default:
		return clip(fmt.Sprint(v))
	}
}

// word is what an error says without quotes of its input: in bounded length, and on
// one line.
func word(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(clip(s))
	}
	return clip(s)
}

// clip bounds what an error quotes of its input.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func pathOr(path, fallback string) string {
	if path == "" {
		return fallback
	}
	return path
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

package object

import (
	"encoding/json"
	"fmt"
	"strings"

	"ringway/control"
)

// Decode makes an object of d and fills in what was left out, or says what is wrong
// with it for itself: whether it fits what else there is, Admit says. The error is
// control.Problems whose fields begin with the object, as in
// "NetworkPolicy default/web: spec.podSelector".
func Decode(d Document) (Object, error) {
	where := fmt.Sprintf("line %d", d.Line)
	top, ok := d.tree.(map[string]any)
	if !ok {
		return nil, control.Problems{{Field: where, Reason: "it is not a mapping", Remedy: "write apiVersion, kind, metadata and spec"}}
	}
	kind, err := kindOf(where, top)
	if err != nil {
		return nil, err
	}
	ps := problems{list: kind.shape.Check(top)}
	if err := ps.err(whose(where, kind, top)); err != nil {
		return nil, err
	}
	o := kind.make()
	if err := d.into(o); err != nil {
		return nil, control.Problems{{Field: whose(where, kind, top), Reason: err.Error(), Remedy: "write it as the kind has it"}}
	}
	checkMeta(o, top, &ps)
	if len(ps.list) == 0 {
		o.check(&ps)
	}
	if err := ps.err(whose(where, kind, top)); err != nil {
		return nil, err
	}
	return o, nil
}

// into has the size of the object in mind: what was left out and written out again
// adds little.
func (d Document) into(o Object) error {
	doc, err := d.JSON()
	if err != nil {
		return err
	}
	if len(doc) > MaxObjectBytes {
		return fmt.Errorf("%d bytes are too many", len(doc))
	}
	return json.Unmarshal(doc, o)
}

// DecodeAll decodes the documents of a stream; the error has what is wrong with all
// of them, as far as it goes.
func DecodeAll(docs []Document) ([]Object, error) {
	var out []Object
	var all control.Problems
	for _, d := range docs {
		o, err := Decode(d)
		if err != nil {
			all = append(all, err.(control.Problems)...) // Decode has no other errors
		}
		if len(all) >= maxProblems {
			break
		}
		out = append(out, o)
	}
	if len(all) > 0 {
		return nil, all[:min(len(all), maxProblems)]
	}
	return out, nil
}

// kindOf looks at what the document is before anything looks for fields.
func kindOf(where string, top map[string]any) (*Kind, error) {
	refuse := func(field, reason, remedy string) (*Kind, error) {
		return nil, control.Problems{{Field: where + ": " + field, Reason: reason, Remedy: remedy}}
	}
	name, _ := top["kind"].(string)
	if name == "" {
		return refuse("kind", "missing", "write one of "+kindNames())
	}
	kind := kindWritten(name)
	if kind == nil {
		if like, ok := KindByName(name); ok {
			return refuse("kind", fmt.Sprintf("%q is not known", clip(name)), "write "+like.Written)
		}
		return refuse("kind", fmt.Sprintf("%q is not known", clip(name)), "write one of "+kindNames())
	}
	where = whose(where, kind, top)
	version, _ := top["apiVersion"].(string)
	switch {
	case version == "":
		return refuse("apiVersion", "missing", "write "+kind.APIVersion)
	case version != kind.APIVersion:
		return refuse("apiVersion", fmt.Sprintf("%q has no %s here", clip(version), kind.Written), "write "+kind.APIVersion)
	}
	return kind, nil
}

// whose names an object that may be wrong in every way.
func whose(where string, kind *Kind, top map[string]any) string {
	meta, _ := top["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	namespace, _ := meta["namespace"].(string)
	if name == "" {
		return where + ": " + kind.Name
	}
	if kind.Namespaced && namespace == "" {
		namespace = defaultNamespace
	}
	if !kind.Namespaced {
		namespace = ""
	}
	return strings.TrimSpace(kind.Name + " " + strings.TrimPrefix(clip(namespace)+"/"+clip(name), "/"))
}

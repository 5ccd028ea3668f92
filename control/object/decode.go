package object

import (
	"encoding/json"
	"errors"
	"fmt"

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
	if err := json.Unmarshal(d.json, o); err != nil {
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

// DecodeAll decodes the documents of a stream; the error has what is wrong with all
// of them, as far as it goes.
func DecodeAll(docs []Document) ([]Object, error) {
	var out []Object
	var all control.Problems
	for _, d := range docs {
		o, err := Decode(d)
		var ps control.Problems // Decode has no other errors
		if errors.As(err, &ps) {
			all = append(all, ps...)
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
	if namespace == "" {
		return kind.Name + " " + word(name)
	}
	return kind.Name + " " + word(namespace) + "/" + word(name)
}

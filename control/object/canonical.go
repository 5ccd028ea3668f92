package object

import (
	"encoding/json"
	"fmt"
	"strconv"

	"ringway/control/store"
)

// stored is an object as JSON, fields in this order.
type stored struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   Meta   `json:"metadata"`
	Spec       any    `json:"spec,omitempty"`
}

// Canonical is o as it is kept: the same bytes for the same content, in one line of
// JSON, without the revision.
func Canonical(o Object) ([]byte, error) { return marshal(o, "") }

// Render is o for people: the same with metadata.resourceVersion.
func Render(o Object, revision uint64) ([]byte, error) {
	return marshal(o, strconv.FormatUint(revision, 10))
}

func marshal(o Object, revision string) ([]byte, error) {
	kind, meta := o.Kind(), *o.Metadata()
	meta.ResourceVersion = revision
	out, err := encode(stored{kind.APIVersion, kind.Written, meta, o.spec()})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", Key(o).String(), err)
	}
	return out, nil
}

// DecodeStored reads what is kept under k: an Object as Canonical wrote it, an
// *Identity or a Counter. It is what store.Options.Decode wants.
func DecodeStored(k store.Key, value []byte) (any, error) {
	switch k.Kind {
	case KindIdentity:
		return decodeIdentity(k, value)
	case KindCounter:
		return Counter(value), nil
	}
	for _, kind := range kinds {
		if kind.Name != k.Kind {
			continue
		}
		o := kind.make()
		if err := json.Unmarshal(value, o); err != nil {
			return nil, fmt.Errorf("decode what is kept of %s: %w", k, err)
		}
		if n, ok := o.(*Node); ok {
			n.remember()
		}
		if Key(o) != k {
			return nil, fmt.Errorf("decode what is kept of %s: it is %s", k, Key(o).String())
		}
		return o, nil
	}
	return nil, fmt.Errorf("decode what is kept of %s: the kind is not known: was it written by a newer release?", k)
}

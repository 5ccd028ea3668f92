package store

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Keys in etcd. All of Ringway's begin with prefix, and this package touches no
// others. stateRange names the state and the version key and nothing else: one
// watch of it sees a change of the state and its version in one event, and nothing
// of what nodes report.
const (
	prefix        = "/ringway/v1/"
	clusterKey    = prefix + "cluster"
	nodeStatusKey = prefix + "node-status/"
	stateKey      = prefix + "state/"
	versionKey    = prefix + "version"
	stateRangeEnd = versionKey + "\x00"
)

// clusterScoped stands where the namespace stands in keys of objects that have
// none. No namespace has this name (RFC 1123 labels have no underscore).
const clusterScoped = "_"

// Key names an item of the state. Namespace is empty for what belongs to the whole
// cluster.
type Key struct{ Kind, Namespace, Name string }

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// Compare orders keys by kind, namespace, and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Kind, o.Kind), strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

func (k Key) check() error {
	return errors.Join(checkPart("kind", k.Kind), checkPart("name", k.Name), checkNamespace(k.Namespace))
}

func checkNamespace(namespace string) error {
	if namespace == "" {
		return nil
	}
	if namespace == clusterScoped {
		return fmt.Errorf("namespace: %q is taken; give it another name", clusterScoped)
	}
	return checkPart("namespace", namespace)
}

func checkPart(field, part string) error {
	if part == "" {
		return fmt.Errorf("%s: is empty; give it a name", field)
	}
	if strings.ContainsAny(part, "/\x00") || !utf8.ValidString(part) {
		return fmt.Errorf("%s: %q has a slash, a zero byte or broken UTF-8; give it a name without", field, part)
	}
	return nil
}

func (k Key) etcd() string {
	return stateKey + k.Kind + "/" + cmp.Or(k.Namespace, clusterScoped) + "/" + k.Name
}

func parseKey(key string) (Key, error) {
	parts := strings.Split(strings.TrimPrefix(key, stateKey), "/")
	if len(parts) != 3 {
		return Key{}, fmt.Errorf("key %q is not %sKIND/NAMESPACE/NAME", key, stateKey)
	}
	k := Key{Kind: parts[0], Namespace: parts[1], Name: parts[2]}
	switch k.Namespace {
	case clusterScoped:
		k.Namespace = ""
	case "":
		return Key{}, fmt.Errorf("key %q has an empty namespace", key)
	}
	return k, k.check()
}

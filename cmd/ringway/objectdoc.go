package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	pb "ringway/control/ringwayv1"
)

// objectDoc is an object as a controller keeps it, of any kind. Its methods take
// paths as in "spec.vxlan.vni", and show what is not there as nothing.
type objectDoc map[string]any

func (o objectDoc) at(path string) any {
	var v any = map[string]any(o)
	for key := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

// text of a scalar.
func (o objectDoc) text(path string) string {
	if v := o.at(path); v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// list is a,b,… of scalars.
func (o objectDoc) list(path string) string {
	items, _ := o.at(path).([]any)
	out := make([]string, len(items))
	for i, v := range items {
		out[i] = fmt.Sprint(v)
	}
	return strings.Join(out, ",")
}

func (o objectDoc) count(path string) int {
	items, _ := o.at(path).([]any)
	return len(items)
}

// pairs is k=v,… of a mapping.
func (o objectDoc) pairs(path string) string {
	m, _ := o.at(path).(map[string]any)
	return pairs(m)
}

func (o objectDoc) annotation(key string) string {
	m, _ := o.at("metadata.annotations").(map[string]any)
	if v, ok := m[key]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// selector is a label selector, whose expressions are only counted.
func (o objectDoc) selector(path string) string {
	out := o.pairs(path + ".matchLabels")
	if n := o.count(path + ".matchExpressions"); n > 0 {
		out = strings.TrimPrefix(fmt.Sprintf("%s,%d expressions", out, n), ",")
	}
	if out == "" {
		return "all"
	}
	return out
}

// ports is 53/UDP,… of a service.
func (o objectDoc) ports(path string) string {
	items, _ := o.at(path).([]any)
	out := make([]string, len(items))
	for i, v := range items {
		m, _ := v.(map[string]any)
		port := objectDoc(m)
		protocol := port.text("protocol")
		if protocol == "" {
			protocol = "TCP"
		}
		out[i] = port.text("port") + "/" + protocol
	}
	return strings.Join(out, ",")
}

// addStatus puts what a controller knows of a node under the key status, where
// apply passes over it.
func (o objectDoc) addStatus(s *pb.NodeState) error {
	if s == nil {
		return nil
	}
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(s)
	if err != nil {
		return fmt.Errorf("read the state of node %s: %w", s.GetName(), err)
	}
	var status map[string]any
	if err := json.Unmarshal(b, &status); err != nil {
		return fmt.Errorf("read the state of node %s: %w", s.GetName(), err)
	}
	for _, key := range []string{"name", "address", "nodeCidrs"} {
		delete(status, key) // the object has them
	}
	o["status"] = status
	return nil
}

package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/yaml"

	"ringway/control/compile"
	"ringway/control/object"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
	"ringway/control/tableset"
)

const (
	maxDiffResources = 100 // of one node
	countTimeout     = 5 * time.Second
	countsAtOnce     = 64
)

// errTried takes an edit back that was only to be looked at.
var errTried = errors.New("only tried")

func (s *objectServer) DiffObjects(ctx context.Context, r *pb.DiffObjectsRequest) (*pb.DiffObjectsResponse, error) {
	docs, err := parseAll(r.GetDocuments())
	if err != nil {
		return nil, answer(err)
	}
	out := &pb.DiffObjectsResponse{}
	var change store.Change
	var base *compile.Compiler
	_, err = s.update(ctx, func(e *edit, compiler *compile.Compiler) error {
		if out.Objects, err = e.diffAll(docs); err != nil {
			return err
		}
		if err := tryOut(e, compiler); err != nil {
			return err
		}
		change, base = e.change(), compiler
		return errTried
	})
	if !errors.Is(err, errTried) {
		return nil, answer(err)
	}
	if out.Nodes, err = s.diffNodes(ctx, change, base); err != nil {
		return nil, answer(err)
	}
	return out, nil
}

// diffAll puts objects and shows each before and after.
func (e *edit) diffAll(docs []object.Document) ([]*pb.ObjectDiff, error) {
	before := map[store.Key][]byte{}
	for _, d := range docs {
		o, err := object.Decode(d)
		if err != nil {
			return nil, err
		}
		if before[object.Key(o)], err = e.yaml(object.Key(o)); err != nil {
			return nil, err
		}
	}
	results, err := e.putAll(docs)
	if err != nil {
		return nil, err
	}
	var out []*pb.ObjectDiff
	for _, r := range results {
		k := store.Key{Kind: r.GetKey().GetKind(), Namespace: r.GetKey().GetNamespace(), Name: r.GetKey().GetName()}
		after, err := e.yaml(k)
		if err != nil {
			return nil, err
		}
		out = append(out, &pb.ObjectDiff{Key: r.GetKey(), Result: r.GetResult(), Diff: unifiedDiff(k.String(), string(before[k]), string(after))})
	}
	return out, nil
}

// yaml is an object as people read it, without its revision; empty if there is
// none.
func (e *edit) yaml(k store.Key) ([]byte, error) {
	item, ok := e.Get(k)
	if !ok {
		return nil, nil
	}
	out, err := yaml.JSONToYAML(item.Value)
	if err != nil {
		return nil, fmt.Errorf("write %s as YAML: %w", k, err)
	}
	return out, nil
}

// diffNodes is what each node would be sent, and how many of its flows would be
// decided anew.
func (s *objectServer) diffNodes(ctx context.Context, change store.Change, base *compile.Compiler) ([]*pb.NodeDiff, error) {
	if base == nil || len(change.Puts)+len(change.Deletes) == 0 {
		return nil, nil
	}
	next := base.Clone()
	update, err := next.Apply(change)
	if err != nil {
		return nil, err
	}
	var diffs []*pb.NodeDiff
	policies := map[string][]uint32{} // identities whose policy is another, by node
	for _, node := range nodesOf(s.store.View(), update) {
		d := nodeDiff(node, update, base.Policies(node), next.Policies(node))
		policies[node] = changedPolicies(update, base.Policies(node), next.Policies(node))
		if len(d.GetResources()) > 0 {
			diffs = append(diffs, d)
		}
	}
	s.countFlows(ctx, diffs, policies)
	return diffs, nil
}

// nodesOf are the nodes that are and those that would be.
func nodesOf(view store.View, u tableset.Update) []string {
	names := map[string]bool{}
	for _, item := range view.List(object.KindNode, "") {
		names[item.Name] = true
	}
	for _, n := range u.Nodes {
		names[n.Node] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// nodeDiff has the resources that the node would get or lose.
func nodeDiff(node string, u tableset.Update, before, after []uint32) *pb.NodeDiff {
	d := &pb.NodeDiff{Node: node}
	add := func(key string) {
		if len(d.Resources) < maxDiffResources {
			d.Resources = append(d.Resources, key)
		} else {
			d.MoreResources++
		}
	}
	for _, c := range u.Common {
		add(c.Key)
	}
	for _, id := range changedPolicies(u, before, after) {
		add(tableset.KeyPolicy(id))
	}
	return d
}

// changedPolicies are the identities of a node whose policy would be another, would
// come or go.
func changedPolicies(u tableset.Update, before, after []uint32) []uint32 {
	changed := map[string]bool{}
	for _, c := range u.Policies {
		changed[c.Key] = true
	}
	var out []uint32
	for _, id := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(before, after)))) {
		_, was := slices.BinarySearch(before, id)
		_, is := slices.BinarySearch(after, id)
		if was != is || changed[tableset.KeyPolicy(id)] {
			out = append(out, id)
		}
	}
	return out
}

// countFlows asks the nodes that are connected here, several at once.
func (s *objectServer) countFlows(ctx context.Context, diffs []*pb.NodeDiff, policies map[string][]uint32) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	states := s.push.States()
	var group sync.WaitGroup
	slots := make(chan struct{}, countsAtOnce)
	for _, d := range diffs {
		ids := policies[d.GetNode()]
		switch {
		case len(ids) == 0:
			continue
		case !states[d.GetNode()].Connected:
			d.Error = fmt.Sprintf("the node is not connected to controller %s", s.cfg.Name)
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			n, err := s.push.CountFlows(ctx, d.GetNode(), ids)
			if d.LiveFlows = n; err != nil {
				d.Error = err.Error()
			}
		})
	}
	group.Wait()
}

package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"ringway/control"
	"ringway/control/compile"
	"ringway/control/object"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

// MaxWeight bounds one call that applies or deletes objects, which is one
// transaction: etcd takes so many keys at once unless told otherwise.
const MaxWeight = 96

// MaxBytes bounds the documents of one call that applies objects, unless it is one
// alone: etcd takes no more at once unless told otherwise.
const MaxBytes = 900 << 10

// Weight is how many keys an object of a kind takes, with all that follows from it.
func Weight(kind string) int {
	switch kind {
	case object.KindEndpoint: // its identity, and the counters of addresses and identities
		return 4
	case object.KindNode: // the counter of its addresses
		return 2
	}
	return 1
}

// objectServer answers ringway.v1.ObjectService.
type objectServer struct {
	pb.UnimplementedObjectServiceServer
	*controller
}

func (s *objectServer) ApplyObjects(ctx context.Context, r *pb.ApplyObjectsRequest) (*pb.ApplyObjectsResponse, error) {
	docs, err := parseAll(r.GetDocuments())
	if err != nil {
		return nil, answer(err)
	}
	var results []*pb.ObjectResult
	version, err := s.update(ctx, func(e *edit, base *compile.Compiler) error {
		if results, err = e.putAll(docs); err != nil {
			return err
		}
		return tryOut(e, base)
	})
	if err != nil {
		return nil, answer(err)
	}
	return &pb.ApplyObjectsResponse{Results: s.withRevisions(results, version), Version: version}, nil
}

// withRevisions adds what the commit made known.
func (s *objectServer) withRevisions(results []*pb.ObjectResult, version uint64) []*pb.ObjectResult {
	for _, r := range results {
		if r.GetResult() == resultCreated || r.GetResult() == resultChanged {
			r.Revision = version
		}
	}
	return results
}

// parseAll reads documents of one object each.
func parseAll(documents []string) ([]object.Document, error) {
	var docs []object.Document
	weight := 0
	for i, text := range documents {
		field := fmt.Sprintf("documents[%d]", i)
		one, err := object.Parse([]byte(text))
		if err != nil {
			return nil, prefixed(field, err)
		}
		if len(one) != 1 {
			return nil, control.Problems{{Field: field, Reason: fmt.Sprintf("it has %d objects", len(one)), Remedy: "put one in each"}}
		}
		o, err := object.Decode(one[0])
		if err != nil {
			return nil, prefixed(field, err)
		}
		weight += Weight(o.Kind().Name)
		docs = append(docs, one[0])
	}
	return docs, checkWeight("documents", weight)
}

func checkWeight(field string, weight int) error {
	if weight > MaxWeight {
		return control.Problems{{Field: field, Reason: fmt.Sprintf("they take %d keys, and one transaction has %d", weight, MaxWeight), Remedy: "hand them in as several calls, as ringway apply and delete do"}}
	}
	return nil
}

// putAll puts objects in the order in which they need each other, and answers in
// the order of docs. They are decoded each time anew, because what an edit
// completes belongs to its state.
func (e *edit) putAll(docs []object.Document) ([]*pb.ObjectResult, error) {
	objects, err := object.DecodeAll(docs)
	if err != nil {
		return nil, err
	}
	order := make([]int, len(objects))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(rank(objects[a].Kind().Name), rank(objects[b].Kind().Name))
	})
	results := make([]*pb.ObjectResult, len(objects))
	var all control.Problems
	for _, i := range order {
		result, err := e.put(objects[i])
		var ps control.Problems
		switch {
		case errors.As(err, &ps):
			all = append(all, ps...)
		case err != nil:
			return nil, err
		}
		results[i] = &pb.ObjectResult{Key: keyMessage(object.Key(objects[i])), Result: result}
		if old, ok := e.Get(object.Key(objects[i])); ok && result == resultUnchanged {
			results[i].Revision = old.Revision
		}
	}
	return results, all.Err()
}

// rank is a kind's place in the order in which objects need each other.
func rank(kind string) int {
	return slices.IndexFunc(object.Kinds(), func(k *object.Kind) bool { return k.Name == kind })
}

func keyMessage(k store.Key) *pb.ObjectKey {
	return &pb.ObjectKey{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}
}

func (s *objectServer) DeleteObjects(ctx context.Context, r *pb.DeleteObjectsRequest) (*pb.DeleteObjectsResponse, error) {
	keys, err := readKeys(r.GetKeys())
	if err != nil {
		return nil, answer(err)
	}
	var results []*pb.ObjectResult
	version, err := s.update(ctx, func(e *edit, base *compile.Compiler) error {
		if results, err = e.removeAll(keys); err != nil {
			return err
		}
		return tryOut(e, base)
	})
	if err != nil {
		return nil, answer(err)
	}
	s.forgetNodes(ctx, results)
	return &pb.DeleteObjectsResponse{Results: results, Version: version}, nil
}

func readKeys(in []*pb.ObjectKey) ([]store.Key, error) {
	var keys []store.Key
	weight := 0
	for i, k := range in {
		key, err := readKey(fmt.Sprintf("keys[%d]", i), k)
		if err != nil {
			return nil, err
		}
		weight += Weight(key.Kind)
		keys = append(keys, key)
	}
	return keys, checkWeight("keys", weight)
}

func readKey(field string, k *pb.ObjectKey) (store.Key, error) {
	kind, err := kindOf(field+".kind", k.GetKind())
	if err != nil {
		return store.Key{}, err
	}
	namespace := k.GetNamespace()
	switch {
	case kind.Namespaced && namespace == "":
		namespace = "default"
	case !kind.Namespaced && namespace != "":
		return store.Key{}, control.Problems{{Field: field + ".namespace", Reason: fmt.Sprintf("a %s is in none", kind.Name), Remedy: "leave it out"}}
	}
	if k.GetName() == "" {
		return store.Key{}, control.Problems{{Field: field + ".name", Reason: "missing", Remedy: "name the object"}}
	}
	return store.Key{Kind: kind.Name, Namespace: namespace, Name: k.GetName()}, nil
}

func kindOf(field, name string) (*object.Kind, error) {
	kind, ok := object.KindByName(name)
	if !ok {
		return nil, control.Problems{{Field: field, Reason: fmt.Sprintf("%q is not known", name), Remedy: "write a kind, as in NetworkPolicy"}}
	}
	return kind, nil
}

// removeAll deletes objects that others need last, and answers in the order of
// keys.
func (e *edit) removeAll(keys []store.Key) ([]*pb.ObjectResult, error) {
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank(keys[b].Kind), rank(keys[a].Kind)) })
	results := make([]*pb.ObjectResult, len(keys))
	for _, i := range order {
		result, err := e.remove(keys[i])
		if err != nil {
			return nil, err
		}
		results[i] = &pb.ObjectResult{Key: keyMessage(keys[i]), Result: result}
	}
	return results, nil
}

// forgetNodes takes away what is kept of the states of nodes that are gone. If that
// fails there is only a state of nobody, which is not shown.
func (s *objectServer) forgetNodes(ctx context.Context, results []*pb.ObjectResult) {
	for _, r := range results {
		if r.GetKey().GetKind() != object.KindNode {
			continue
		}
		if err := s.store.RemoveStatus(ctx, r.GetKey().GetName()); err != nil {
			s.log.Warn("the state of a node that was deleted is still in etcd", "node", r.GetKey().GetName(), "err", err)
		}
	}
}

func (s *objectServer) GetObjects(r *pb.GetObjectsRequest, stream grpc.ServerStreamingServer[pb.GetObjectsResponse]) error {
	kind, err := kindOf("kind", r.GetKind())
	if err != nil {
		return answer(err)
	}
	namespace := r.GetNamespace()
	if !kind.Namespaced {
		namespace = ""
	}
	var out []*pb.Object
	for _, item := range s.store.View().List(kind.Name, namespace) {
		o, ok := item.Object.(object.Object)
		if !ok || r.GetName() != "" && item.Name != r.GetName() {
			continue
		}
		document, err := object.Render(o, item.Revision)
		if err != nil {
			return answer(err)
		}
		out = append(out, &pb.Object{Key: keyMessage(item.Key), Document: string(document), Revision: item.Revision})
	}
	return sendAll(out, func(items []*pb.Object) error { return stream.Send(&pb.GetObjectsResponse{Items: items}) })
}

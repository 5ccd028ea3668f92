package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"

	"ringway/control/controller"
	"ringway/control/object"
	pb "ringway/control/ringwayv1"
)

// manifest is one object as it is written in a file.
type manifest struct {
	key      *pb.ObjectKey
	document string
}

// readManifests reads the objects of a file, "-" being stdin. What is wrong with
// one for itself is found here, where its line is known; a controller looks again.
func readManifests(path string, stdin io.Reader) ([]manifest, error) {
	doc, err := readInput(path, stdin)
	if err != nil {
		return nil, err
	}
	docs, err := object.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	objects, err := object.DecodeAll(docs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("%s: there is no object: write apiVersion, kind, metadata and spec", path)
	}
	all := make([]manifest, len(docs))
	for i, o := range objects {
		k := object.Key(o)
		all[i] = manifest{&pb.ObjectKey{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}, string(docs[i].JSON())}
	}
	return all, nil
}

func readInput(path string, stdin io.Reader) ([]byte, error) {
	var doc []byte
	var err error
	if path == "-" {
		doc, err = io.ReadAll(stdin)
	} else {
		doc, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the objects: %w", err)
	}
	return doc, nil
}

// inOrder sorts so that what others need comes before them.
func inOrder(all []manifest) {
	slices.SortStableFunc(all, func(a, b manifest) int { return cmp.Compare(rank(a.key), rank(b.key)) })
}

func rank(k *pb.ObjectKey) int {
	return slices.IndexFunc(object.Kinds(), func(o *object.Kind) bool { return o.Name == k.GetKind() })
}

// batches cuts all into parts that one call takes.
func batches(all []manifest) [][]manifest {
	var out [][]manifest
	weight, size := 0, 0
	for _, m := range all {
		w := controller.Weight(m.key.GetKind())
		if len(out) == 0 || weight+w > controller.MaxWeight || size+len(m.document) > controller.MaxBytes {
			out = append(out, nil)
			weight, size = 0, 0
		}
		out[len(out)-1] = append(out[len(out)-1], m)
		weight, size = weight+w, size+len(m.document)
	}
	return out
}

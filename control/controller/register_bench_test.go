package controller

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"ringway/control/object"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

// BenchmarkRegister registers pods at a controller with embedded etcd that has so
// many endpoints already, as many at a time as nodes of a busy cluster do.
func BenchmarkRegister(b *testing.B) {
	for _, endpoints := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) { benchmarkRegister(b, endpoints) })
	}
}

func benchmarkRegister(b *testing.B, endpoints int) {
	s := newSite(b)
	cfg := s.config("c1")
	cfg.Listen = ""
	c, err := open(context.Background(), cfg, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.close(); err != nil {
			b.Error(err)
		}
	})
	fill(b, c, endpoints)
	var last atomic.Int64
	b.ResetTimer()
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			n := int(last.Add(1))
			request := &pb.RegisterEndpointRequest{Name: fmt.Sprintf("ns%d/new-%d", n%fillNamespaces, n), Labels: fillLabels(n)}
			_, err := c.share(b.Context(), func(tx store.Tx) error {
				_, err := register(newEdit(tx), "busy", request)
				return err
			})
			if err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
}

// What fill makes.
const (
	fillPods       = 250 // of a node
	fillNamespaces = 100
	fillApps       = 20 // of a namespace
)

func fillLabels(n int) map[string]string {
	return map[string]string{"app": fmt.Sprint("app", n/fillNamespaces%fillApps), "tier": "backend"}
}

// fill puts nodes and endpoints as if they had come by themselves, and a node without
// any.
func fill(b *testing.B, c *controller, endpoints int) {
	nodes := (endpoints + fillPods - 1) / fillPods
	objects := []object.Object{&object.Node{Meta: object.Meta{Name: "busy"}, Spec: object.NodeSpec{Address: "192.168.255.1", NodeCIDRs: []string{"11.0.0.0/10"}}}}
	for n := range nodes {
		objects = append(objects, &object.Node{Meta: object.Meta{Name: fmt.Sprint("node", n)}, Spec: object.NodeSpec{
			Address: fmt.Sprintf("192.168.%d.%d", n/200, 1+n%200), NodeCIDRs: []string{fmt.Sprintf("10.%d.%d.0/24", n/256, n%256)},
		}})
	}
	for n := range endpoints {
		node, pod := n/fillPods, n%fillPods
		e := &object.Endpoint{Meta: object.Meta{Namespace: fmt.Sprint("ns", n%fillNamespaces), Name: fmt.Sprint("pod-", n)}, Spec: object.EndpointSpec{
			Node: fmt.Sprint("node", node), Address: fmt.Sprintf("10.%d.%d.%d", node/256, node%256, 2+pod), Labels: fillLabels(n),
		}}
		objects = append(objects, e)
	}
	for len(objects) > 0 {
		part := objects[:min(2000, len(objects))]
		objects = objects[len(part):]
		_, err := c.store.Update(b.Context(), func(tx store.Tx) error { return putRaw(tx, part) })
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := c.feed.wait(context.Background(), c.store.View().Version()); err != nil {
		b.Fatal(err)
	}
}

// putRaw puts what others would have to admit one by one.
func putRaw(tx store.Tx, objects []object.Object) error {
	for _, o := range objects {
		value, err := object.Canonical(o)
		if err != nil {
			return err
		}
		if err := tx.Put(object.Key(o), value); err != nil {
			return err
		}
		if e, ok := o.(*object.Endpoint); ok {
			if err := ensureIdentity(tx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

package compile

import (
	"flag"
	"fmt"
	"testing"

	"ringway/control/object"
)

var sequences = flag.Int("sequences", defaultSequences, "how many random sequences of changes are compiled in steps and at once")

// TestStepsMakeWhatOneMakes holds that a version's resources follow from its
// objects: two compilers that are told in different steps and one that is told all
// at once make the same bytes.
func TestStepsMakeWhatOneMakes(t *testing.T) {
	for seed := range uint64(*sequences) {
		d := newDice(seed)
		w := newWorld()
		lazy := newWorld() // the same objects, told more rarely
		lazy.objects = w.objects
		steps, rare := New("c"), New("c")
		var bySteps, byRare copies
		tell := func(c *Compiler, w *world, to *copies, reset bool) {
			ch := w.change()
			if reset {
				ch = w.everything()
			}
			u, err := c.Apply(ch)
			if err != nil {
				t.Fatal(err)
			}
			to.take(t, u)
		}
		for i := range 150 {
			for range 1 + d.IntN(4) {
				d.mutate(w)
			}
			for k := range w.dirty {
				lazy.dirty[k] = true
			}
			tell(steps, w, &bySteps, i == 0)
			if i > 0 && !d.chance(15) && i < 149 {
				continue
			}
			lazy.version = w.version - 1
			tell(rare, lazy, &byRare, i == 0 || d.chance(5))
			byRare.same(t, &bySteps)
			var whole copies
			u, err := New("c").Apply(w.everything())
			if err != nil {
				t.Fatal(err)
			}
			whole.take(t, u)
			bySteps.same(t, &whole)
		}
	}
}

// mutate makes, changes or takes away one object.
func (d dice) mutate(w *world) {
	switch d.IntN(20) {
	case 0, 1:
		n := node(fmt.Sprintf("node%d", d.IntN(4)))
		if d.chance(80) {
			n.Spec.NodeCIDRs = []string{fmt.Sprintf("10.0.%d.0/24", d.IntN(4))}
		}
		d.putOrDelete(w, n, 80)
	case 2:
		name := d.namespace()
		d.putOrDelete(w, &object.Namespace{Meta: object.Meta{Name: name, Labels: merge(d.labels(), object.NamespaceNameLabel, name)}}, 75)
	case 3:
		s := &object.Service{Meta: object.Meta{Namespace: d.namespace(), Name: pick(d, "s1", "s2")}}
		s.Spec.Address = "10.96.0.1"
		if d.chance(80) {
			s.Spec.Selector = map[string]string{pick(d, "app", "tier"): d.value()}
		} else {
			s.Spec.Backends = []string{"10.0.0.9"}
		}
		d.putOrDelete(w, s, 75)
	case 4:
		d.putOrDelete(w, &object.RoutingConfig{Meta: object.Meta{Name: object.Singleton}, Spec: object.RoutingConfigSpec{Routing: pick(d, "direct", "hybrid"), MSSClamp: d.chance(50)}}, 70)
	case 5:
		d.putOrDelete(w, &object.Masquerade{Meta: object.Meta{Name: object.Singleton}, Spec: object.MasqueradeSpec{StrictEIM: d.chance(50)}}, 70)
	case 6:
		d.putOrDelete(w, &object.LocalRedirectPolicy{Meta: object.Meta{Namespace: d.namespace(), Name: "r"}, Spec: object.RedirectSpec{Description: d.value()}}, 70)
	case 7, 8, 9, 10:
		d.putOrDelete(w, d.policy(d.namespace(), pick(d, "p1", "p2", "p3")), 75)
	case 11:
		w.set(object.IdentityKey(300), &object.Identity{ID: 300, Namespace: d.namespace(), Labels: d.labels(), Ports: d.ports()})
	case 12:
		w.delete(object.IdentityKey(300))
	default:
		name := fmt.Sprintf("pod%d", d.IntN(8))
		d.putOrDelete(w, endpoint1(fmt.Sprintf("node%d", d.IntN(5)), d.namespace(), name, d.address(), d.labels(), d.ports()...), 75)
	}
	if d.chance(70) {
		w.identify()
	}
}

func (d dice) putOrDelete(w *world, o object.Object, percent int) {
	if d.chance(percent) {
		w.put(o)
	} else {
		w.delete(object.Key(o))
	}
}

func merge(m map[string]string, k, v string) map[string]string {
	m[k] = v
	return m
}

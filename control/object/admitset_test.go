package object

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"ringway/control"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

// tableSet is the table set of everything in v, without policies' identities, which
// the compiler makes.
func tableSet(v mapView) *pb.TableSet {
	set := &pb.TableSet{Routing: "overlay"}
	for _, item := range v.List(KindNode, "") {
		set.Nodes = append(set.Nodes, item.Object.(*Node).Message())
	}
	for _, item := range v.List(KindMasquerade, "") {
		set.Masquerade = item.Object.(*Masquerade).Message()
	}
	for _, item := range v.List(KindService, "") {
		set.Services = append(set.Services, item.Object.(*Service).Message())
	}
	for _, item := range v.List(KindRedirect, "") {
		set.Redirects = append(set.Redirects, item.Object.(*LocalRedirectPolicy).Message())
	}
	ids := map[string]uint32{}
	set.Policy = &pb.Policy{}
	on := map[string]*pb.NodeEndpoints{}
	for _, item := range v.List(KindEndpoint, "") {
		e := item.Object.(*Endpoint)
		id := e.Identity()
		if ids[id.Content()] == 0 {
			ids[id.Content()] = uint32(MinIdentity + len(ids))
			set.Policy.Identities = append(set.Policy.Identities, &pb.Identity{Id: ids[id.Content()], Namespace: id.Namespace, Labels: id.Labels})
		}
		if on[e.Spec.Node] == nil {
			on[e.Spec.Node] = &pb.NodeEndpoints{Node: e.Spec.Node}
			set.Policy.Endpoints = append(set.Policy.Endpoints, on[e.Spec.Node])
		}
		on[e.Spec.Node].Endpoints = append(on[e.Spec.Node].Endpoints, &pb.EndpointIdentity{Address: e.Spec.Address, Identity: ids[id.Content()]})
	}
	return set
}

// few draws from so little that what is drawn is in each other's way.
type few struct{ *rand.Rand }

func (r few) address() string {
	return fmt.Sprintf("10.0.%d.%d", r.IntN(3), []int{0, 1, 2, 3, 4, 7}[r.IntN(6)])
}

func (r few) cidr() string {
	return []string{"10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.0.0/30", "10.0.0.4/30", "10.0.1.0/29", "10.0.2.0/30", "10.0.0.0/23"}[r.IntN(8)]
}

func (r few) name() string { return []string{"a", "b", "c", "d"}[r.IntN(4)] }

func (r few) document() string {
	switch r.IntN(6) {
	case 0:
		cidrs := r.cidr()
		if r.IntN(3) == 0 {
			cidrs += ", " + r.cidr()
		}
		mac := ""
		if r.IntN(4) == 0 {
			mac = fmt.Sprintf(`, vtepMAC: "02:52:0a:00:0%d:02"`, r.IntN(3))
		}
		return named("Node", r.name(), fmt.Sprintf(`{address: %s, nodeCIDRs: [%s]%s}`, r.address(), cidrs, mac))
	case 1:
		return named("Pool", r.name(), fmt.Sprintf(`{cidrs: [%s], maskSize: 30}`, r.cidr()))
	case 2:
		return inShop("Endpoint", r.name(), fmt.Sprintf(`{node: %s, address: %s, labels: {app: %s}}`, r.name(), r.address(), r.name()))
	case 3:
		return inShop("Service", r.name(), fmt.Sprintf(`{address: %s, ports: [{port: %d}], backends: [%s]}`, r.address(), 1+r.IntN(2), r.address()))
	case 4:
		return redirectOf(r.name(), fmt.Sprintf(`{addressMatcher: {ip: %s, toPorts: [{port: "80", protocol: TCP}]}}`, r.address()))
	default:
		return named("Masquerade", "cluster", fmt.Sprintf(`{rules: [{name: a, action: snat, addresses: [%s]}]}`, r.address()))
	}
}

// Whatever is admitted and deleted in whatever order, nodes take what comes of it.
// And where there is neither a pool nor an endpoint, in whose favour the door is
// stricter, nothing is refused that nodes would have taken.
func TestWhatIsAdmittedIsValid(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	admitted, refused := 0, 0
	for seed := range rounds {
		r := few{rand.New(rand.NewPCG(uint64(seed), 5))}
		v := mapView{}
		for range 60 {
			if r.IntN(4) == 0 {
				deleteSome(r, v)
				checkValid(t, v)
				continue
			}
			doc := r.document()
			docs, err := Parse([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			o, err := Decode(docs[0])
			if err != nil {
				refused++
				continue // its own fault
			}
			key := Key(o)
			old, had := v[key]
			err = Admit(v, o)
			v[key] = asKept(t, o)
			if err == nil {
				admitted++
				checkValid(t, v)
				continue
			}
			refused++
			if len(v.List(KindPool, ""))+len(v.List(KindEndpoint, "")) == 0 && validate(v) == nil {
				t.Errorf("seed %d: %s\nrefused: %v", seed, doc, err)
			}
			delete(v, key)
			if had {
				v[key] = old
			}
		}
	}
	t.Logf("%d admitted, %d refused", admitted, refused)
	if admitted < 10*rounds || refused < 10*rounds {
		t.Error("the objects are not enough, or too much, in each other's way")
	}
}

// asKept is o as it comes back.
func asKept(t *testing.T, o Object) any {
	t.Helper()
	out, err := DecodeStored(Key(o), canonical(t, o))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func deleteSome(r few, v mapView) {
	keys := make([]store.Key, 0, len(v))
	for k := range v {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return
	}
	slices.SortFunc(keys, store.Key.Compare)
	k := keys[r.IntN(len(keys))]
	if AdmitDelete(v, k) == nil {
		delete(v, k)
	}
}

func checkValid(t *testing.T, v mapView) {
	t.Helper()
	if err := validate(v); err != nil {
		for _, k := range []string{KindPool, KindNode, KindEndpoint, KindService, KindRedirect, KindMasquerade} {
			for _, item := range v.List(k, "") {
				t.Logf("%s", canonical(t, item.Object.(Object)))
			}
		}
		t.Fatal(err)
	}
}

// validate is what the nodes would say; without nodes, nobody.
func validate(v mapView) error {
	nodes := v.List(KindNode, "")
	if len(nodes) == 0 {
		return control.ValidatePart(tableSet(v))
	}
	for _, n := range nodes {
		if _, err := control.Validate(tableSet(v), n.Name); err != nil {
			return err
		}
	}
	return nil
}

package tableset

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
)

// Split cuts a set into resources, in the order of its fields. The version is in
// none of them.
func Split(set *pb.TableSet) ([]Resource, error) {
	s := splitter{seen: map[string]bool{}}
	s.add(KeySettings, settings(set))
	if m := set.GetMasquerade(); m != nil {
		s.add(KeyMasquerade, m)
	}
	for _, n := range set.GetNodes() {
		s.add(KeyNode(n.GetName()), n)
	}
	for _, x := range set.GetServices() {
		s.add(KeyService(x.GetNamespace(), x.GetName()), x)
	}
	for _, r := range set.GetRedirects() {
		s.add(KeyRedirect(r.GetNamespace(), r.GetName()), r)
	}
	s.policy(set.GetPolicy())
	return s.resources, s.err
}

// settings is what is left of a set without its lists and its version.
func settings(set *pb.TableSet) *pb.TableSet {
	out := &pb.TableSet{Routing: set.GetRouting(), Vxlan: set.GetVxlan(), MssClamp: set.GetMssClamp()}
	if p := set.GetPolicy(); p != nil {
		out.Policy = &pb.Policy{Mode: p.GetMode(), PoliceHost: p.GetPoliceHost()}
	}
	return out
}

type splitter struct {
	resources []Resource
	seen      map[string]bool
	err       error // the first one
}

func (s *splitter) policy(p *pb.Policy) {
	for _, id := range p.GetIdentities() {
		s.add(KeyIdentity(id.GetId()), id)
	}
	for _, e := range p.GetEndpoints() {
		s.add(KeyEndpoints(e.GetNode()), e)
	}
	for _, x := range p.GetPolicies() {
		s.add(KeyPolicy(x.GetIdentity()), x)
	}
}

func (s *splitter) add(key string, m proto.Message) {
	if s.err != nil {
		return
	}
	if s.seen[key] {
		s.err = fmt.Errorf("%s: there are two of them: remove one", clip(key))
		return
	}
	s.seen[key] = true
	r, err := New(key, m)
	if err != nil {
		s.err = err
		return
	}
	s.resources = append(s.resources, r)
}

package tableset

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
)

// Assemble puts a set together: the same from the same resources, with lists in
// the order of the keys.
func Assemble(version uint64, resources []Resource) (*pb.TableSet, error) {
	var a Assembler
	return a.Assemble(version, Of(resources...))
}

// Assembler puts sets together that have much in common: it decodes a resource
// once for as long as the set has it. The zero Assembler is ready for use. It is
// not safe for concurrent use.
type Assembler struct {
	decoded map[string]decoded
}

// decoded is the message of a resource.
type decoded struct {
	digest  Digest
	message proto.Message
}

// Assemble puts a set together. Its parts are shared with the sets before and
// after, so nobody may modify them.
func (a *Assembler) Assemble(version uint64, s *Set) (*pb.TableSet, error) {
	set := &pb.TableSet{Version: version}
	next := make(map[string]decoded, s.Len())
	settings, err := a.settings(s, next)
	if err != nil {
		return nil, err
	}
	set.Routing, set.Vxlan, set.MssClamp = settings.GetRouting(), settings.GetVxlan(), settings.GetMssClamp()
	if p := settings.GetPolicy(); p != nil {
		set.Policy = &pb.Policy{Mode: p.GetMode(), PoliceHost: p.GetPoliceHost()}
	}
	for _, key := range s.Keys() {
		if key == KeySettings {
			continue
		}
		m, err := a.decode(s.resources[key], next)
		if err != nil {
			return nil, err
		}
		if err := place(set, key, m); err != nil {
			return nil, err
		}
	}
	a.decoded = next
	return set, nil
}

// settings decodes the one resource that every set has.
func (a *Assembler) settings(s *Set, next map[string]decoded) (*pb.TableSet, error) {
	r, ok := s.Get(KeySettings)
	if !ok {
		return nil, fmt.Errorf("%s: missing: every set has it", KeySettings)
	}
	m, err := a.decode(r, next)
	if err != nil {
		return nil, err
	}
	return m.(*pb.TableSet), nil
}

// decode takes the message from the set before, where it was the same.
func (a *Assembler) decode(r Resource, next map[string]decoded) (proto.Message, error) {
	if d, ok := a.decoded[r.Key]; ok && d.digest == r.Digest {
		next[r.Key] = d
		return d.message, nil
	}
	m, err := emptyMessage(r.Key)
	if err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(r.Value, m); err != nil {
		return nil, fmt.Errorf("%s: decode it: %w", clip(r.Key), err)
	}
	if want := keyOf(m); want != r.Key {
		return nil, fmt.Errorf("%s: its value is of %s", clip(r.Key), clip(want))
	}
	next[r.Key] = decoded{r.Digest, m}
	return m, nil
}

// emptyMessage is of the type that the key says.
func emptyMessage(key string) (proto.Message, error) {
	kind, _, _ := strings.Cut(key, "/")
	switch kind {
	case "settings":
		return &pb.TableSet{}, nil
	case "masquerade":
		return &pb.Masquerade{}, nil
	case "node":
		return &pb.Node{}, nil
	case "service":
		return &pb.Service{}, nil
	case "redirect":
		return &pb.Redirect{}, nil
	case "identity":
		return &pb.Identity{}, nil
	case "endpoints":
		return &pb.NodeEndpoints{}, nil
	case "policy":
		return &pb.IdentityPolicy{}, nil
	}
	return nil, fmt.Errorf("%s: resources of this kind are not known: update the agent", clip(key))
}

func keyOf(m proto.Message) string {
	switch m := m.(type) {
	case *pb.TableSet:
		return KeySettings
	case *pb.Masquerade:
		return KeyMasquerade
	case *pb.Node:
		return KeyNode(m.GetName())
	case *pb.Service:
		return KeyService(m.GetNamespace(), m.GetName())
	case *pb.Redirect:
		return KeyRedirect(m.GetNamespace(), m.GetName())
	case *pb.Identity:
		return KeyIdentity(m.GetId())
	case *pb.NodeEndpoints:
		return KeyEndpoints(m.GetNode())
	case *pb.IdentityPolicy:
		return KeyPolicy(m.GetIdentity())
	}
	return ""
}

// place puts a message where it belongs in the set.
func place(set *pb.TableSet, key string, m proto.Message) error {
	switch m := m.(type) {
	case *pb.Masquerade:
		set.Masquerade = m
		return nil
	case *pb.Node:
		set.Nodes = append(set.Nodes, m)
		return nil
	case *pb.Service:
		set.Services = append(set.Services, m)
		return nil
	case *pb.Redirect:
		set.Redirects = append(set.Redirects, m)
		return nil
	}
	p := set.GetPolicy()
	if p == nil {
		return fmt.Errorf("%s: the settings have no policy section: it needs one", clip(key))
	}
	switch m := m.(type) {
	case *pb.Identity:
		p.Identities = append(p.Identities, m)
	case *pb.NodeEndpoints:
		p.Endpoints = append(p.Endpoints, m)
	case *pb.IdentityPolicy:
		p.Policies = append(p.Policies, m)
	}
	return nil
}

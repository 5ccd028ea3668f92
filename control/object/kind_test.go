package object

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "ringway/control/ringwayv1"
)

func TestKindByName(t *testing.T) {
	for name, want := range map[string]string{
		"node": KindNode, "nodes": KindNode, "no": KindNode, "Node": KindNode,
		"pool": KindPool, "pools": KindPool,
		"namespace": KindNamespace, "ns": KindNamespace,
		"endpoints": KindEndpoint, "ep": KindEndpoint,
		"svc": KindService, "Services": KindService,
		"lrp": KindRedirect, "redirects": KindRedirect, "localredirectpolicy": KindRedirect, "CiliumLocalRedirectPolicy": KindRedirect,
		"netpol": KindNetworkPolicy, "networkpolicies": KindNetworkPolicy, "NETPOL": KindNetworkPolicy,
		"masquerade": KindMasquerade, "masq": KindMasquerade,
		"routingconfig": KindRoutingConfig, "routing": KindRoutingConfig,
	} {
		if k, ok := KindByName(name); !ok || k.Name != want {
			t.Errorf("%s: got %+v", name, k)
		}
	}
	for _, name := range []string{"", "identity", "counter", "deployment"} {
		if k, ok := KindByName(name); ok {
			t.Errorf("%q is %s", name, k.Name)
		}
	}
}

func TestNamesOfKindsAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Kinds() {
		names := []string{strings.ToLower(k.Name), strings.ToLower(k.Written), strings.ToLower(k.Plural)}
		names = append(names, k.Short...)
		slices.Sort(names)
		for _, n := range slices.Compact(names) {
			if of := seen[n]; of != "" {
				t.Errorf("%q is %s and %s", n, of, k.Name)
			}
			seen[n] = k.Name
		}
	}
}

// What table sets can say, objects can, under the same names.
func TestSpecsHaveTheFieldsOfMessages(t *testing.T) {
	for _, c := range []struct {
		spec    any
		message proto.Message
		less    []string // fields of the message that come from elsewhere
		more    []string
	}{
		{MasqueradeSpec{}, &pb.Masquerade{}, nil, nil},
		{MasqueradeRule{}, &pb.MasqueradeRuleSpec{}, nil, nil},
		{VXLAN{}, &pb.Vxlan{}, nil, nil},
		{ServiceSpec{}, &pb.Service{}, []string{"namespace", "name"}, []string{"selector"}},
		{ServicePort{}, &pb.ServicePort{}, nil, nil},
		{RedirectSpec{}, &pb.Redirect{}, []string{"namespace", "name"}, nil},
		{RedirectFrontend{}, &pb.RedirectFrontend{}, nil, nil},
		{AddressMatcher{}, &pb.AddressMatcher{}, nil, nil},
		{ServiceMatcher{}, &pb.ServiceMatcher{}, nil, nil},
		{RedirectBackend{}, &pb.RedirectBackend{}, []string{"nodeAddress"}, nil},
		{PortInfo{}, &pb.PortInfo{}, nil, nil},
		{NamedPort{}, &pb.NamedPort{}, nil, nil},
		{RoutingConfigSpec{}, &pb.TableSet{}, []string{"version", "nodes", "masquerade", "services", "redirects"}, nil},
		{PolicyConfig{}, &pb.Policy{}, []string{"identities", "endpoints", "policies"}, nil},
	} {
		got := slices.Concat(jsonNames(reflect.TypeOf(c.spec)), c.less)
		want := slices.Concat(messageNames(c.message.ProtoReflect().Descriptor()), c.more)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%T\ngot  %v\nwant %v", c.spec, got, want)
		}
	}
}

func jsonNames(t reflect.Type) (out []string) {
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

func messageNames(md protoreflect.MessageDescriptor) (out []string) {
	for i := range md.Fields().Len() {
		out = append(out, md.Fields().Get(i).JSONName())
	}
	return out
}

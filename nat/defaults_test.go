package nat

import (
	"net/netip"
	"reflect"
	"testing"
)

func TestDefaults(t *testing.T) {
	user := RuleSpec{Name: "mine", Action: ActionDrop, Destinations: cidrs("10.10.1.5/32"), From: "tables: masquerade.rules[0]"}
	near, far := netip.MustParseAddr("192.168.0.101"), netip.MustParseAddr("192.168.1.103")
	full := Inputs{
		Rules:              []RuleSpec{user},
		NodeCIDRs:          cidrs("10.200.0.0/24", "10.200.1.0/24"),
		NodeAddresses:      []NodeAddress{{near, true}, {far, false}},
		NativeRoutingCIDRs: CIDRs("table set", cidrs("10.0.0.0/16", "10.1.0.0/16")),
		NonMasqueradeCIDRs: append(CIDRs("table set", cidrs("172.16.0.0/12")), CIDR{cidrs("172.20.0.0/16")[0], "/f: line 2"}, CIDR{cidrs("172.21.0.0/16")[0], "/f: line 3"}),
	}
	rule := func(name, from string, a Action, destinations ...string) RuleSpec {
		r := RuleSpec{Name: name, Pods: true, Action: a, From: from}
		if len(destinations) > 0 {
			r.Destinations = cidrs(destinations...)
		}
		return r
	}
	linkLocal := rule("link-local", "default", ActionNone, "169.254.0.0/16")
	last := rule("default", "default", ActionSNAT)
	head := []RuleSpec{
		user, linkLocal,
		rule("node-cidrs", "tables: nodes[].nodeCidrs", ActionNone, "10.200.0.0/24", "10.200.1.0/24"),
		rule("native-routing", "table set", ActionNone, "10.0.0.0/16", "10.1.0.0/16"),
		rule("non-masquerade", "table set", ActionNone, "172.16.0.0/12"),
		rule("non-masquerade", "/f: line 2", ActionNone, "172.20.0.0/16"),
		rule("non-masquerade", "/f: line 3", ActionNone, "172.21.0.0/16"),
	}
	const directly, overlay = "tables: nodes[].address, reached directly", "tables: nodes[].address, reached by overlay"
	cases := map[string][]RuleSpec{
		"direct":  {rule("node-addresses", directly, ActionNone, "192.168.0.101/32", "192.168.1.103/32"), last},
		"overlay": {rule("node-addresses", overlay, ActionSNAT, "192.168.0.101/32", "192.168.1.103/32"), last},
		"hybrid": {
			rule("node-addresses", directly, ActionNone, "192.168.0.101/32"),
			rule("node-addresses", overlay, ActionSNAT, "192.168.1.103/32"), last,
		},
	}
	for routing, tail := range cases {
		in := full
		in.Routing = routing
		want := append(append([]RuleSpec(nil), head...), tail...)
		got := Defaults(in)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", routing, got, want)
		}
		for _, r := range got {
			if r.From == "" || r.Name == "" {
				t.Errorf("%+v does not say where it comes from", r)
			}
		}
	}

	// Nothing given must not become a rule for everything.
	if got, want := Defaults(Inputs{Routing: "overlay"}), []RuleSpec{linkLocal, last}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got, want := Defaults(Inputs{Routing: "overlay", MasqLinkLocal: true}), []RuleSpec{last}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestDecisions are the cases that operators ask about.
func TestDecisions(t *testing.T) {
	in := Inputs{
		Rules:              []RuleSpec{{Name: "two-of-excluded", Destinations: cidrs("10.10.1.5/32", "10.10.1.6/32"), Action: ActionSNAT}},
		NodeCIDRs:          cidrs("10.200.0.0/24"),
		NodeAddresses:      []NodeAddress{{Address: netip.MustParseAddr("192.168.0.101")}},
		NativeRoutingCIDRs: CIDRs("t", cidrs("10.0.0.0/16")),
		NonMasqueradeCIDRs: CIDRs("t", cidrs("10.10.0.0/16", "198.51.100.0/24")),
	}
	cases := []struct {
		routing, dst string
		fromPod      bool
		want         Action // 0: no rule
	}{
		{"overlay", "8.8.8.8", true, ActionSNAT},
		{"overlay", "8.8.8.8", false, 0}, // transit is left alone
		{"overlay", "10.10.1.4", true, ActionNone},
		{"overlay", "198.51.100.7", true, ActionNone}, // a second CIDR at once
		{"overlay", "10.10.1.5", true, ActionSNAT},    // an exception inside an exclusion
		{"overlay", "169.254.169.254", true, ActionNone},
		{"overlay", "192.168.0.101", true, ActionSNAT},
		{"direct", "192.168.0.101", true, ActionNone},
		{"hybrid", "192.168.0.101", true, ActionSNAT},
		{"direct", "10.200.0.9", true, ActionNone}, // pod to pod, with or without a list
		{"direct", "10.10.255.255", true, ActionNone},
	}
	for _, c := range cases {
		in.Routing = c.routing
		var got Action
		if r := compile(t, Defaults(in)).Match(addr32("10.200.0.3"), addr32(c.dst), c.fromPod, 0); r != nil {
			got = r.Spec.Action
		}
		if got != c.want {
			t.Errorf("%s to %s, pod %v: %s, want %s", c.routing, c.dst, c.fromPod, got, c.want)
		}
	}
}

package nat

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	three  = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"
	eleven = three + " 100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4"
)

// said is a result in one line: CIDRs with the lines that they are from, then
// "link-local" where that is masqueraded, then the notes.
func said(c IPMasq) string {
	var words []string
	for _, e := range c.NonMasqueradeCIDRs {
		w := e.Prefix.String()
		if e.Line > 0 {
			w += fmt.Sprintf("@%d", e.Line)
		}
		words = append(words, w)
	}
	if c.MasqLinkLocal {
		words = append(words, "link-local")
	}
	out := strings.Join(words, " ")
	for _, n := range c.Notes {
		out += " # " + n
	}
	return out
}

func manyEntries(n int) string {
	var b strings.Builder
	b.WriteString("nonMasqueradeCIDRs:\n")
	for i := range n {
		fmt.Fprintf(&b, "- %s/32\n", fromAddr32(10<<24+uint32(i)))
	}
	return b.String()
}

// TestIPMasqDialects has a case for each thing in which the two differ or might
// be thought to. A result that begins with "line" is a refusal.
func TestIPMasqDialects(t *testing.T) {
	list := "nonMasqueradeCIDRs: [10.1.0.0/16, 10.2.0.0/16]\n"
	cases := []struct{ name, doc, cilium, upstream string }{
		{"empty file", "", eleven, three},
		{"empty mapping", "{}", "", three},
		{"only comments", "# nothing\n", "", three},
		{"only white space", " \n", "", three},
		{"null", "null", "", three},
		{"only the separator", "---\n", "", three},
		{"only masqLinkLocal", "masqLinkLocal: true\n", "link-local", three + " link-local"},
		{"masqLinkLocal false", "masqLinkLocal: false\n" + list, "10.1.0.0/16@2 10.2.0.0/16@2", "10.1.0.0/16@2 10.2.0.0/16@2"},
		{"masqLinkLocal null", "masqLinkLocal:\n", "", three},
		{"a YAML 1.1 boolean", "masqLinkLocal: yes\n", "link-local", three + " link-local"},
		{"a list", list, "10.1.0.0/16@1 10.2.0.0/16@1", "10.1.0.0/16@1 10.2.0.0/16@1"},
		{"an entry a line", "# c\nnonMasqueradeCIDRs:\n- 10.1.0.0/16\n\n- '10.2.0.0/16'\n", "10.1.0.0/16@3 10.2.0.0/16@5", "10.1.0.0/16@3 10.2.0.0/16@5"},
		{"JSON", "{\n\t\"nonMasqueradeCIDRs\": [\n\t\t\"10.1.0.0/16\",\n\t\t\"0.0.0.0/0\"\n\t],\n\t\"masqLinkLocal\": true\n}\n", "10.1.0.0/16@3 0.0.0.0/0@4 link-local", "10.1.0.0/16@3 0.0.0.0/0@4 link-local"},
		{"the list null", "nonMasqueradeCIDRs:\n", "", ""},
		{"the list empty", "nonMasqueradeCIDRs: []\n", "", ""},
		{"keys in another case", "NONMASQUERADECIDRS: [10.1.0.0/16]\nmasqlinklocal: on\n", "10.1.0.0/16@1 link-local", "10.1.0.0/16@1 link-local"},
		{"an alias", "x: &x 10.1.0.0/16\nnonMasqueradeCIDRs:\n- *x\n", `10.1.0.0/16@3 # line 1: key "x" has no meaning in profile cilium and is ignored`, `10.1.0.0/16@3 # line 1: key "x" has no meaning in profile upstream and is ignored`},
		{"host bits", "nonMasqueradeCIDRs:\n- 10.1.2.3/16\n", "10.1.0.0/16@2 # line 2: 10.1.2.3/16 is taken as 10.1.0.0/16", "line 2: 10.1.2.3/16 has host bits set: write 10.1.0.0/16"},
		{"IPv6", "nonMasqueradeCIDRs:\n- fd00::/8\n- 10.1.0.0/16\n", "10.1.0.0/16@3 # line 2: fd00::/8 has no effect: IPv6 is not carried", "line 2: fd00::/8 is IPv6, which is not enabled: take it out"},
		{"IPv6 link-local", "masqLinkLocalIPv6: true\n", " # line 1: masqLinkLocalIPv6 has no effect: IPv6 is not carried", three + " # line 1: masqLinkLocalIPv6 has no effect: IPv6 is not carried"},
		{"no IPv6 link-local", "masqLinkLocalIPv6: false\n", "", three},
		{"resyncInterval", list + "resyncInterval: 1m30s\n", `10.1.0.0/16@1 10.2.0.0/16@1 # line 2: key "resyncInterval" has no meaning in profile cilium and is ignored`, "10.1.0.0/16@1 10.2.0.0/16@1"},
		{"resyncInterval a number", "resyncInterval: 60\n", ` # line 1: key "resyncInterval" has no meaning in profile cilium and is ignored`, `line 1: "60" of resyncInterval is not a duration: write it as in 60s`},
		{"resyncInterval no duration", "resyncInterval: often\n", ` # line 1: key "resyncInterval" has no meaning in profile cilium and is ignored`, `line 1: "often" of resyncInterval is not a duration: write it as in 60s`},
		{"cidrLimit", "cidrLimit: 1\n" + list, `10.1.0.0/16@2 10.2.0.0/16@2 # line 1: key "cidrLimit" has no meaning in profile cilium and is ignored`, "line 2: nonMasqueradeCIDRs has 2 entries, the limit is 1: aggregate them, or raise cidrLimit"},
		{"cidrLimit below the defaults", "cidrLimit: 2\n", ` # line 1: key "cidrLimit" has no meaning in profile cilium and is ignored`, "line 1: nonMasqueradeCIDRs has 3 entries, the limit is 2: aggregate them, or raise cidrLimit"},
		{"cidrLimit null", "cidrLimit:\n", ` # line 1: key "cidrLimit" has no meaning in profile cilium and is ignored`, three},
		{"cidrLimit a word", "cidrLimit: few\n", ` # line 1: key "cidrLimit" has no meaning in profile cilium and is ignored`, `line 1: "few" of cidrLimit is not a whole number: write digits`},
		{"unknown key", "nonMasqueradeCIDR: [10.0.0.0/8]\n", ` # line 1: key "nonMasqueradeCIDR" has no meaning in profile cilium and is ignored`, three + ` # line 1: key "nonMasqueradeCIDR" has no meaning in profile upstream and is ignored`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for profile, want := range map[Profile]string{ProfileCilium: c.cilium, ProfileUpstream: c.upstream} {
				parsed, err := ParseIPMasq([]byte(c.doc), profile)
				got := said(parsed)
				if err != nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("%s: got  %s\nwant %s", profile, got, want)
				}
				compareWithPeer(t, []byte(c.doc), profile, parsed, err)
			}
		})
	}
}

func TestIPMasqLimits(t *testing.T) {
	if c, err := ParseIPMasq([]byte(manyEntries(64)), ProfileUpstream); err != nil || len(c.NonMasqueradeCIDRs) != 64 {
		t.Errorf("64 entries: %v", err)
	}
	_, err := ParseIPMasq([]byte(manyEntries(65)), ProfileUpstream)
	if want := "line 1: nonMasqueradeCIDRs has 65 entries, the limit is 64: aggregate them, or raise cidrLimit"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if c, err := ParseIPMasq([]byte(manyEntries(65)+"cidrLimit: 65\n"), ProfileUpstream); err != nil || len(c.NonMasqueradeCIDRs) != 65 {
		t.Errorf("65 entries of 65: %v", err)
	}
	if c, err := ParseIPMasq([]byte(manyEntries(1000)), ProfileCilium); err != nil || len(c.NonMasqueradeCIDRs) != 1000 || c.NonMasqueradeCIDRs[999].Line != 1001 {
		t.Errorf("1000 entries: %v", err)
	}
	_, err = ParseIPMasq([]byte(manyEntries(maxIPMasqCIDRs+1)), ProfileCilium)
	if want := "line 1: nonMasqueradeCIDRs has 65537 entries, the limit is 65536: aggregate them"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestIPMasqRefusals are alike in both dialects.
func TestIPMasqRefusals(t *testing.T) {
	cases := []struct{ name, doc, want string }{
		{"not YAML", "nonMasqueradeCIDRs: [\n", "line 2: did not find expected node content: correct the YAML there"},
		{"a tab", "nonMasqueradeCIDRs:\n\t- 10.0.0.0/8\n", "line 2: found character that cannot start any token: correct the YAML there"},
		{"no text", "a: 1\nb: \x01\n", "line 2: what is there is no text: write it in UTF-8"},
		{"no UTF-8", "a: 1\n\xff\n", "line 2: what is there is no text: write it in UTF-8"},
		{"two documents", "masqLinkLocal: true\n---\nmasqLinkLocal: false\n", "line 2: a second YAML document starts: keep one document in the file"},
		{"a list", "- 10.0.0.0/8\n", "line 1: a list is not a mapping: write key: value lines"},
		{"a word", "\nten\n", `line 2: "ten" is not a mapping: write key: value lines`},
		{"a key twice", "masqLinkLocal: true\nmasqlinkLocal: false\n", `line 2: "masqlinkLocal" is also on line 1: write the key once`},
		{"a merge key", "x: &x {masqLinkLocal: true}\n<<: *x\n", "line 2: merge keys are not taken: write the keys out"},
		{"the list a word", "nonMasqueradeCIDRs: 10.0.0.0/8\n", `line 1: "10.0.0.0/8" is not a list: write one "- CIDR" line each`},
		{"the list a mapping", "nonMasqueradeCIDRs:\n  a: b\n", `line 2: a mapping is not a list: write one "- CIDR" line each`},
		{"an empty entry", "nonMasqueradeCIDRs:\n- 10.0.0.0/8\n-\n", "line 3: the entry is empty: fill it in or take it out"},
		{"an entry that is a list", "nonMasqueradeCIDRs:\n- [10.0.0.0/8]\n", "line 2: a list is not a CIDR: write it as in 10.0.0.0/8"},
		{"a number", "nonMasqueradeCIDRs:\n- 10\n", `line 2: "10" is not a CIDR: write it as in 10.0.0.0/8`},
		{"no CIDR", "nonMasqueradeCIDRs:\n- 10.0.0/8\n", `line 2: "10.0.0/8" is not a CIDR: write it as in 10.0.0.0/8`},
		{"no length", "nonMasqueradeCIDRs:\n- 10.0.0.1\n", "line 2: 10.0.0.1 has no prefix length: write 10.0.0.1/32, or what it is to be"},
		{"a length too big", "nonMasqueradeCIDRs:\n- 10.0.0.0/33\n", `line 2: "10.0.0.0/33" is not a CIDR: write it as in 10.0.0.0/8`},
		{"a long entry", "nonMasqueradeCIDRs:\n- " + strings.Repeat("x", 1000), `line 2: "` + strings.Repeat("x", 80) + `" is not a CIDR: write it as in 10.0.0.0/8`},
		{"a quoted boolean", "masqLinkLocal: \"true\"\n", `line 1: "true" of masqLinkLocal is not a boolean: write true or false`},
		{"a number for a boolean", "masqLinkLocal: 1\n", `line 1: "1" of masqLinkLocal is not a boolean: write true or false`},
		{"a list for a boolean", "masqLinkLocalIPv6: [true]\n", `line 1: a list of masqLinkLocalIPv6 is not a boolean: write true or false`},
		{"two faults", "masqLinkLocal: maybe\nnonMasqueradeCIDRs:\n- a\n", "line 1: \"maybe\" of masqLinkLocal is not a boolean: write true or false\nline 3: \"a\" is not a CIDR: write it as in 10.0.0.0/8"},
	}
	for _, c := range cases {
		for _, profile := range []Profile{ProfileCilium, ProfileUpstream} {
			got, err := ParseIPMasq([]byte(c.doc), profile)
			if err == nil || err.Error() != c.want {
				t.Errorf("%s, %s: got  %v\nwant %s", c.name, profile, err, c.want)
			}
			if !reflect.DeepEqual(got, IPMasq{}) {
				t.Errorf("%s: a refused file gives %+v", c.name, got)
			}
		}
	}
	_, err := ParseIPMasq(nil, "calico")
	if want := `profile "calico" of the ip-masq-agent file is not known: choose cilium or upstream`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = ParseIPMasq([]byte("nonMasqueradeCIDRs:\n"+strings.Repeat("- x\n", 100000)), ProfileCilium)
	if err == nil || strings.Count(err.Error(), "\n")+1 != maxIPMasqProblems {
		t.Errorf("a file that is wrong everywhere is refused with %v", err)
	}
}

func TestIPMasqSources(t *testing.T) {
	c, err := ParseIPMasq([]byte("\nnonMasqueradeCIDRs: [10.1.0.0/16]"), ProfileCilium)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.CIDRs("/etc/f"), []CIDR{{netip.MustParsePrefix("10.1.0.0/16"), "/etc/f: line 2"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	got := DefaultIPMasq(ProfileUpstream).CIDRs("/etc/f")
	if len(got) != 3 || got[2] != (CIDR{netip.MustParsePrefix("192.168.0.0/16"), "/etc/f: default of profile upstream"}) {
		t.Errorf("got %v", got)
	}
}

// peerConfig is the file as the peers decode it; the types tell the dialects
// apart.
type peerConfig struct {
	NonMasqueradeCIDRs []string      `json:"nonMasqueradeCIDRs"`
	CidrLimit          int           `json:"cidrLimit"`
	MasqLinkLocal      bool          `json:"masqLinkLocal"`
	MasqLinkLocalIPv6  bool          `json:"masqLinkLocalIPv6"`
	ResyncInterval     *peerDuration `json:"resyncInterval"`
}

type peerDuration struct{}

func (*peerDuration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	_, err := time.ParseDuration(s)
	return err
}

// peer is what the agent of the profile would have in force: its IPv4 prefixes
// and masqLinkLocal.
func peer(doc []byte, profile Profile) ([]netip.Prefix, bool, error) {
	c := peerConfig{CidrLimit: 64}
	if profile == ProfileUpstream {
		c.NonMasqueradeCIDRs = strings.Fields(three)
	}
	if len(doc) == 0 && profile == ProfileCilium {
		c.NonMasqueradeCIDRs = strings.Fields(eleven)
	}
	out, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return nil, false, err
	}
	if profile == ProfileCilium {
		var d struct { // knows three keys
			NonMasqueradeCIDRs []string `json:"nonMasqueradeCIDRs"`
			MasqLinkLocal      bool     `json:"masqLinkLocal"`
			MasqLinkLocalIPv6  bool     `json:"masqLinkLocalIPv6"`
		}
		d.NonMasqueradeCIDRs = c.NonMasqueradeCIDRs
		err = json.Unmarshal(out, &d)
		c.NonMasqueradeCIDRs, c.MasqLinkLocal = d.NonMasqueradeCIDRs, d.MasqLinkLocal
	} else {
		err = json.Unmarshal(out, &c)
	}
	if err != nil {
		return nil, false, err
	}
	if profile == ProfileUpstream && len(c.NonMasqueradeCIDRs) > c.CidrLimit {
		return nil, false, fmt.Errorf("%d entries", len(c.NonMasqueradeCIDRs))
	}
	var prefixes []netip.Prefix
	for _, s := range c.NonMasqueradeCIDRs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, false, err
		}
		if profile == ProfileUpstream && (p != p.Masked() || p.Addr().Is6()) {
			return nil, false, fmt.Errorf("%s", p)
		}
		if p.Addr().Is4() {
			prefixes = append(prefixes, p.Masked())
		}
	}
	return prefixes, c.MasqLinkLocal, nil
}

// compareWithPeer: what both take they understand alike. Whether both take it is
// left to the tables, because YAML decoders differ.
func compareWithPeer(t *testing.T, doc []byte, profile Profile, got IPMasq, err error) {
	t.Helper()
	prefixes, linkLocal, peerErr := peer(doc, profile)
	if err != nil || peerErr != nil {
		return
	}
	var ours []netip.Prefix
	for _, e := range got.NonMasqueradeCIDRs {
		ours = append(ours, e.Prefix)
	}
	if !reflect.DeepEqual(ours, prefixes) || got.MasqLinkLocal != linkLocal {
		t.Errorf("%s: %q is %v and %v, for the peer %v and %v", profile, doc, ours, got.MasqLinkLocal, prefixes, linkLocal)
	}
}

// FuzzIPMasq: no file brings the parser down, a refusal names a line, and what is
// taken means what it means to the peer.
func FuzzIPMasq(f *testing.F) {
	f.Add([]byte("nonMasqueradeCIDRs:\n- 10.0.0.0/8\n- 192.168.1.7/16\nmasqLinkLocal: true\nresyncInterval: 60s\n"))
	f.Add([]byte(`{"nonMasqueradeCIDRs": ["10.0.0.0/8", "fd00::/8"], "cidrLimit": 3, "masqLinkLocalIPv6": false}`))
	f.Add([]byte("a: &a 10.0.0.0/8\nnonMasqueradeCIDRs: [*a, *a]\n<<: *a\n---\n...\n"))
	f.Add([]byte("? [x]\n: y\nmasqLinkLocal: !!bool yes\ncidrLimit: !!int '0x40'\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, profile := range []Profile{ProfileCilium, ProfileUpstream} {
			c, err := ParseIPMasq(doc, profile)
			if err != nil && !strings.HasPrefix(err.Error(), "line ") && !strings.HasPrefix(err.Error(), "the document: ") {
				t.Fatalf("%q: %v names no line", doc, err)
			}
			for _, e := range c.NonMasqueradeCIDRs {
				if !e.Prefix.Addr().Is4() || e.Prefix != e.Prefix.Masked() {
					t.Fatalf("%q gives %v", doc, e)
				}
			}
			compareWithPeer(t, doc, profile, c, err)
		}
	})
}

package chain

import (
	"strings"
	"testing"
)

func TestMappingsThatContradictEachOther(t *testing.T) {
	m := newMappings()
	for _, c := range []struct {
		name string
		flowHeaders
		want string // "": nothing is wrong
	}{
		{"a flow", flowHeaders{1, 10, 20, 5000}, ""},
		{"again", flowHeaders{1, 10, 20, 5000}, ""},
		{"another, another port", flowHeaders{2, 10, 20, 5001}, ""},
		{"another, another destination", flowHeaders{3, 10, 21, 5000}, ""},
		{"another, another address", flowHeaders{4, 11, 20, 5000}, ""},
		{"another, the same", flowHeaders{5, 10, 20, 5000}, "flows 1 and 5"},
		{"its port changed", flowHeaders{1, 10, 20, 5002}, "port 5000 before"},
		{"its address changed", flowHeaders{1, 12, 20, 5000}, "flow 1"},
	} {
		if err := m.see(c.flowHeaders); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}

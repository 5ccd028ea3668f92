package dataplane

import (
	"strings"
	"testing"

	"ringway/dataplane/endpoint"
)

func TestNamesOfEndpoints(t *testing.T) {
	for name, ok := range map[string]bool{
		"web": true, "web-0.example": true, "kube-system/node-local-dns": true,
		"": false, "/": false, "/web": false, "kube-system/": false, "a/b/c": false, "../web": false, "Web": false, "-web": false,
		strings.Repeat("a", 253): true, strings.Repeat("a", 254): false,
	} {
		if endpointName.MatchString(name) != ok {
			t.Errorf("%q: want it taken: %v", name, ok)
		}
	}
}

func TestNamespaceOfEndpoints(t *testing.T) {
	label := map[string]string{namespaceLabel: "kube-system"}
	for _, c := range []struct {
		record endpoint.Record
		want   string
	}{
		{endpoint.Record{Name: "web"}, ""},
		{endpoint.Record{Name: "default/web"}, "default"},
		{endpoint.Record{Name: "web", Labels: label}, "kube-system"},
		{endpoint.Record{Name: "default/web", Labels: label}, "kube-system"},
	} {
		if got := namespaceOf(c.record); got != c.want {
			t.Errorf("%s with labels %v: namespace %q, want %q", c.record.Name, c.record.Labels, got, c.want)
		}
	}
}

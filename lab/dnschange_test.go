package lab

import (
	"strings"
	"testing"
	"time"

	"ringway/control/ringwayv1"
)

// TestRedirectChanges has the redirect come, go to the other form of the cache, and
// go away, again and again under a thousand queries a second: none of them is lost,
// and none is answered from elsewhere.
func TestRedirectChanges(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	l := dnsLab(t, Options{})
	must(t, l.StartHostCache())
	q := startQueries(t, l, KubeDNS, 1000)
	for range rounds {
		for _, form := range []string{PodRedirect, HostRedirect, PodRedirect, ""} {
			redirectDNS(t, l, form)
			time.Sleep(50 * time.Millisecond)
		}
	}
	endQueries(t, q, "all")
	checkHealthy(t, l)
}

// wrongRedirects are manifests that must be refused: the good one with one text in
// place of another.
var wrongRedirects = []struct{ name, replace, by, problem string }{
	{"not YAML", "spec:", "spec: [", "redirects.yaml"},
	{"another kind", "CiliumLocalRedirectPolicy", "CiliumNetworkPolicy", "kind"},
	{"another version", "cilium.io/v2", "cilium.io/v9", "apiVersion"},
	{"unknown field", "serviceMatcher:", "serviceMather:", "spec.redirectFrontend.serviceMather"},
	{"no service", "serviceName: kube-dns", "serviceName: \"\"", "serviceMatcher.serviceName"},
	{"another namespace", "namespace: kube-system\n  redirectBackend", "namespace: default\n  redirectBackend", "serviceMatcher.namespace"},
	{"no port", `port: "53"`, `port: "fifty"`, "redirectBackend.toPorts[0].port"},
	{"no protocol", "protocol: UDP", "protocol: ICMP", "redirectBackend.toPorts[0].protocol"},
	{"a name twice", "name: dns-tcp", "name: dns", "redirectBackend.toPorts[1].name"},
	{"every pod", "matchLabels:\n        k8s-app: node-local-dns", "matchLabels: {}", "redirectBackend.localEndpointSelector"},
}

// TestWrongRedirectsAreRefused writes one wrong manifest after the other while
// queries run: ringway status names the field and fails, the redirect that was in
// force stays, and a good manifest heals.
func TestWrongRedirectsAreRefused(t *testing.T) {
	l := fileDNSLab(t, Options{})
	redirectDNS(t, l, PodRedirect)
	good, err := dnsFile(PodRedirect)
	must(t, err)
	q := startQueries(t, l, KubeDNS, 1000)
	for _, wrong := range wrongRedirects {
		spoilt := strings.Replace(good, wrong.replace, wrong.by, 1)
		if spoilt == good {
			t.Fatalf("%s: %q is not in the good file:\n%s", wrong.name, wrong.replace, good)
		}
		must(t, l.SetRedirects(cacheNode, spoilt))
		waitStatus(t, l, wrong.name, wrong.problem)
	}
	r, err := l.Redirect(testContext(t, 5*time.Second), cacheNode)
	must(t, err)
	must(t, l.SetRedirects(cacheNode, good))
	waitStatus(t, l, "a good file", "")
	result := endQueries(t, q, "all")
	if r.GetState() != "active" {
		t.Errorf("the redirect is %s", r.GetState())
	}
	after, err := l.Redirect(testContext(t, 5*time.Second), cacheNode)
	must(t, err)
	if n := after.GetQueries().GetCacheAnswers(); n != uint64(len(result.Queries)) {
		t.Errorf("the cache answered %d of %d queries", n, len(result.Queries))
	}
}

// TestRedirectWithoutEffect has redirects that are well written and yet do nothing:
// get redirects says why, and queries reach kube-dns.
func TestRedirectWithoutEffect(t *testing.T) {
	l := fileDNSLab(t, Options{})
	good, err := dnsFile(PodRedirect)
	must(t, err)
	for _, c := range []struct{ name, replace, by, state string }{
		{"unknown service", "serviceName: kube-dns", "serviceName: coredns", "there is no service kube-system/coredns"},
		{"no local backend", "k8s-app: node-local-dns", "k8s-app: unbound", "no local backend"},
		{"port names", "name: dns", "name: domain", "port names do not match"},
	} {
		must(t, l.SetRedirects(cacheNode, strings.ReplaceAll(good, c.replace, c.by)))
		must(t, l.WaitRedirect(testContext(t, 5*time.Second), cacheNode, func(r *ringwayv1.RedirectStatus) bool {
			return strings.Contains(r.GetState(), c.state)
		}))
		name := strings.ReplaceAll(c.name, " ", "-") + "." + clusterName
		_, err := l.Ask("pod1", KubeDNS, queryPatience, Question{Name: name, Type: 1})
		must(t, err)
		waitDNSLog(t, l, "pod1", name)
	}
}

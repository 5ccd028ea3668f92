package lab

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"ringway/internal/netnstest"
)

// builtCoreDNS builds the lab's CoreDNS, once and only if a test needs it. Without
// a build cache that takes a minute.
var builtCoreDNS = sync.OnceValues(func() (string, error) {
	// Not beside ringway, where lab up would find it in the tests that began later.
	path := filepath.Join(binaryDir, "dns", "coredns")
	cmd := exec.Command("go", "build", "-C", "../tools/coredns", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0") // as make coredns does it: one build cache serves both
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build coredns: %w: %s", err, out)
	}
	return path, nil
})

// dnsLoad is how long a load test goes on.
var dnsLoad = flag.Duration("dnsload", 10*time.Second, "length of the DNS load tests, at most 30s")

// dnsLab is an agentLab with DNS. When the test fails, it shows what the servers have
// to say, too.
func dnsLab(t *testing.T, o Options) *Lab {
	t.Helper()
	o.Controllers = max(o.Controllers, 1)
	return fileDNSLab(t, o)
}

// fileDNSLab is a fileLab with DNS.
func fileDNSLab(t *testing.T, o Options) *Lab {
	t.Helper()
	netnstest.Root(t)
	var err error
	if o.CoreDNS, err = builtCoreDNS(); err != nil {
		t.Fatal(err)
	}
	l := fileLab(t, o)
	t.Cleanup(func() {
		for _, host := range []string{cachePod, cacheNode} {
			if log, err := l.DNSLog(host); t.Failed() && err == nil {
				lines := strings.Split(strings.TrimSpace(log), "\n")
				t.Logf("CoreDNS on %s:\n%s", host, strings.Join(lines[max(0, len(lines)-15):], "\n"))
			}
		}
	})
	return l
}

// redirectDNS puts a form of the redirect into force, or none.
func redirectDNS(t *testing.T, l *Lab, form string) {
	t.Helper()
	must(t, l.RedirectDNS(testContext(t, 5*time.Second), form))
}

const (
	clusterName  = "webpod.default.svc.cluster.local."
	clusterName2 = "kube-dns.kube-system.svc.cluster.local."
	worldName    = "google.com."
)

// TestDNSOfTheCluster asks kube-dns, and the cache for the same: what the
// kubernetes block of the Corefile promises is answered, although from a file.
func TestDNSOfTheCluster(t *testing.T) {
	l := dnsLab(t, Options{})
	for _, c := range []struct {
		question Question
		rcode    int
		answer   string // the last field of the first record; "": there is none
	}{
		{Question{Name: clusterName, Type: dns.TypeA}, dns.RcodeSuccess, "10.96.146.10"},
		{Question{Name: clusterName, Type: dns.TypeAAAA}, dns.RcodeSuccess, ""},
		{Question{Name: "svc.cluster.local.", Type: dns.TypeA}, dns.RcodeSuccess, ""},
		{Question{Name: "default.svc.cluster.local.", Type: dns.TypeA}, dns.RcodeSuccess, ""},
		{Question{Name: "nobody.default.svc.cluster.local.", Type: dns.TypeA}, dns.RcodeNameError, ""},
		{Question{Name: "google.com.kube-system.svc.cluster.local.", Type: dns.TypeA}, dns.RcodeNameError, ""},
		{Question{Name: "_http._tcp." + clusterName, Type: dns.TypeSRV}, dns.RcodeSuccess, clusterName},
		{Question{Name: "_http._udp." + clusterName, Type: dns.TypeSRV}, dns.RcodeNameError, ""},
		{Question{Name: "10.146.96.10.in-addr.arpa.", Type: dns.TypePTR}, dns.RcodeSuccess, clusterName},
		{Question{Name: "10-200-0-3.default.pod.cluster.local.", Type: dns.TypeA}, dns.RcodeSuccess, "10.200.0.3"},
		{Question{Name: "10-200-0-3.nowhere.pod.cluster.local.", Type: dns.TypeA}, dns.RcodeNameError, ""},
		{Question{Name: "dns-version.cluster.local.", Type: dns.TypeTXT}, dns.RcodeSuccess, "1.1.0"},
		{Question{Name: worldName, Type: dns.TypeA}, dns.RcodeSuccess, "203.0.113.10"},
		{Question{Name: worldName, Type: dns.TypeAAAA}, dns.RcodeSuccess, "2001:db8::10"},
		{Question{Name: "www.naver.com.", Type: dns.TypeA}, dns.RcodeSuccess, "naver.com."},
		{Question{Name: "nobody.example.", Type: dns.TypeA}, dns.RcodeNameError, ""},
	} {
		for _, server := range []string{kubeDNSPod, cachePod} {
			checkAnswer(t, l, server, c.question, c.rcode, c.answer)
		}
	}
}

func checkAnswer(t *testing.T, l *Lab, server string, q Question, rcode int, answer string) {
	t.Helper()
	reply, err := l.Ask("pod1", l.dnsListener(server), queryPatience, q)
	if err != nil {
		t.Error(err)
		return
	}
	got := ""
	if len(reply.Answer) > 0 {
		got = dns.Field(reply.Answer[0], dns.NumField(reply.Answer[0]))
	}
	if reply.Rcode != rcode || got != answer {
		t.Errorf("%s on %s: %s %q, want %s %q", q, server, dns.RcodeToString[reply.Rcode], got, dns.RcodeToString[rcode], answer)
	}
}

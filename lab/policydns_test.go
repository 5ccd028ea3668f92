package lab

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsOnly lets the pods of the default namespace send nothing but DNS, to the
// cluster's servers.
const dnsOnly = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns-only, namespace: default}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
`

// TestPolicyDNSOnly: what a policy says is held against where the packets go, not
// against the service's address, whether kube-dns or the node-local cache is that.
func TestPolicyDNSOnly(t *testing.T) {
	l := dnsLab(t, Options{})
	must(t, l.StartHostCache())
	must(t, l.ApplyObjects(testContext(t, 10*time.Second), dnsOnly))
	for _, form := range []string{"", PodRedirect, HostRedirect} {
		redirectDNS(t, l, form)
		for _, name := range []string{clusterName, worldName} {
			reply, err := l.Ask("pod1", KubeDNS, queryPatience, Question{Name: name, Type: dns.TypeA})
			if err != nil || len(reply.Addresses()) == 0 {
				t.Errorf("%q: %s: %v %v", form, name, reply, err)
			}
		}
		if _, err := l.AskTCP(testContext(t, queryPatience), "pod1", KubeDNS, Question{Name: clusterName, Type: dns.TypeA}); err != nil {
			t.Errorf("%q: by TCP: %v", form, err)
		}
		for _, to := range []string{"pod2", "ext", "node2", kubeDNSPod} {
			if l.probe("pod1", l.Address(to), probeKind{protocol: "ICMP"}, probePatience) {
				t.Errorf("%q: pod1 reaches %s", form, to)
			}
		}
	}
	checkHealthy(t, l)
}

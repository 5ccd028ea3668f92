package lab

import (
	"net/netip"
	"testing"
	"time"
)

// matrixPods are two pods in each of three namespaces, over three nodes.
func matrixPods() []Pod {
	pod := func(name, node, address, namespace, app string) Pod {
		return Pod{
			Name: name, Node: node, Address: netip.MustParseAddr(address), Namespace: namespace,
			Labels: map[string]string{"app": app}, Ports: []string{"http=8080/TCP"},
		}
	}
	return []Pod{
		pod("web", "node1", "10.200.0.11", "shop", "web"),
		pod("db", "node2", "10.200.1.12", "shop", "db"),
		pod("api", "node2", "10.200.1.13", "tools", "api"),
		pod("ci", "node4", "10.200.3.14", "tools", "ci"),
		pod("probe", "node1", "10.200.0.15", "watch", "probe"),
		pod("mail", "node4", "10.200.3.16", "watch", "mail"),
	}
}

func TestMatrixTrial(t *testing.T) {
	l := fileLab(t, Options{Pods: matrixPods()})
	p := newProber(t, l, matrixPods(), []probeKind{
		{"TCP", 80}, {"TCP", 8080}, {"UDP", 53}, {"UDP", 8080}, {"SCTP", 3868}, {"SCTP", 80}, {"ICMP", 0},
	})
	for range 2 {
		start := time.Now()
		passed, stopped := p.check(t, func(cell) bool { return true })
		t.Logf("%d %d %s", passed, stopped, time.Since(start))
	}
	for _, k := range p.kinds {
		q := *p
		q.kinds = []probeKind{k}
		start := time.Now()
		passed, stopped := q.check(t, func(cell) bool { return true })
		t.Logf("%s %d %d %s", k, passed, stopped, time.Since(start))
	}
}

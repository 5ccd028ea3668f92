package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"ringway/control/controller"
	pb "ringway/control/ringwayv1"
)

const someObjects = `
apiVersion: ringway.io/v1
kind: Pool
metadata: {name: pods}
spec: {cidrs: [10.200.0.0/16], maskSize: 24}
---
apiVersion: ringway.io/v1
kind: Node
metadata: {name: node1}
spec: {address: 192.168.0.100}
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {team: a}}
---
apiVersion: ringway.io/v1
kind: RoutingConfig
metadata: {name: cluster}
spec: {routing: overlay, vxlan: {vni: 7}, policy: {mode: audit}}
---
apiVersion: ringway.io/v1
kind: Masquerade
metadata: {name: cluster}
spec: {nonMasqueradeCIDRs: [10.0.0.0/8]}
---
apiVersion: ringway.io/v1
kind: Endpoint
metadata: {name: web}
spec: {node: node1, labels: {app: web}}
---
apiVersion: ringway.io/v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec: {address: 10.96.0.10, ports: [{port: 53, protocol: UDP}], selector: {app: dns}}
---
apiVersion: cilium.io/v2
kind: CiliumLocalRedirectPolicy
metadata: {name: cache, namespace: kube-system}
spec:
  redirectFrontend: {serviceMatcher: {serviceName: dns, namespace: kube-system}}
  redirectBackend: {localEndpointSelector: {matchLabels: {app: cache}}, toPorts: [{port: "53", protocol: UDP}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, annotations: {ringway.io/action: Deny, ringway.io/priority: "5"}}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: bad}}}]}]}
`

// serveController has a controller answer where RINGWAY_CONTROLLER leads to, until
// the test ends.
func serveController(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rw") // the test's own directory may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	cfg := controller.DefaultConfig()
	cfg.Name, cfg.Socket, cfg.DataDir = "c1", filepath.Join(dir, "c.sock"), filepath.Join(dir, "data")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- controller.Run(ctx, cfg, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(cfg.Socket); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the socket did not come")
		}
	}
	t.Setenv("RINGWAY_CONTROLLER", "unix://"+cfg.Socket)
	t.Setenv("RINGWAY_SOCKET", "")
}

func TestObjects(t *testing.T) {
	serveController(t)
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte(someObjects), 0o600); err != nil {
		t.Fatal(err)
	}
	type step struct {
		args   string
		code   int
		golden string
	}
	steps := []step{
		{"diff -f " + file, 1, "objects-diff"},
		{"apply -f " + file, 0, "objects-apply"},
		{"apply -f " + file, 0, "objects-again"},
		{"diff -f " + file, 0, "objects-same"},
		{"get node node1 -o yaml", 0, "objects-node.yaml"},
		{"get pools -o json", 0, "objects-pools.json"},
		{"get networkpolicies deny", 0, "objects-policy"},
		{"get services -n kube-system", 0, "objects-services"},
	}
	for _, v := range objectViews {
		steps = append(steps, step{"get " + v.name + " -o wide --controller " + os.Getenv("RINGWAY_CONTROLLER"), 0, "objects-" + v.name + ".wide"})
	}
	steps = append(steps, step{"delete -f " + file, 0, "objects-delete"}, step{"delete netpol deny", 0, "objects-absent"})
	for _, s := range steps {
		code, stdout, stderr := ringway(t, strings.Fields(s.args)...)
		if code != s.code || stderr != "" {
			t.Errorf("%s: exit code %d, %q", s.args, code, stderr)
		}
		golden(t, s.golden, stdout)
	}
	for _, s := range []struct{ args, stderr string }{
		{"get node nobody", "there is no Node nobody: see ringway get nodes"},
		{"get endpoints web -n other", "there is no Endpoint other/web"},
	} {
		if code, _, stderr := ringway(t, strings.Fields(s.args)...); code != 1 || !strings.Contains(stderr, s.stderr) {
			t.Errorf("%s: exit code %d, %q", s.args, code, stderr)
		}
	}
	// What get prints, apply takes.
	code, _, stderr := ringway(t, "apply", "-f", file)
	if code != 0 {
		t.Fatal(stderr)
	}
	_, list, _ := ringway(t, "get", "nodes", "-o", "yaml")
	if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := ringway(t, "apply", "-f", file); code != 0 || stdout != "Node node1 unchanged\n" {
		t.Errorf("what get printed: exit code %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, _ := ringway(t, "status", "--controller", os.Getenv("RINGWAY_CONTROLLER")); code != 0 || !strings.HasPrefix(stdout, "Controller:    OK\nName:          c1\n") {
		t.Errorf("status: exit code %d\n%s", code, stdout)
	}
}

// TestManyObjects: more than one transaction takes goes in batches.
func TestManyObjects(t *testing.T) {
	serveController(t)
	file := filepath.Join(t.TempDir(), "x.yaml")
	doc := "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}}\n"
	for i := range 150 {
		doc += "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n" + strings.Repeat("x", i%60) + string(rune('a'+i/60)) + "}\n"
	}
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := ringway(t, "apply", "-f", file)
	if code != 0 || !strings.HasPrefix(stdout, "151 objects are applied in 2 batches, each as a whole or not at all\nNamespace n") || !strings.HasSuffix(stdout, "NetworkPolicy default/p created\n") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, stderr := ringway(t, "delete", "-f", file, "-o", "json"); code != 0 || strings.Contains(stdout, "batches") || strings.Count(stdout, `"deleted"`) != 151 {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

// TestConnectionScreen shows how a node stands with its controllers.
func TestConnectionScreen(t *testing.T) {
	now := started.Add(time.Hour)
	at := func(ago time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-ago)) }
	var b strings.Builder
	line := func(label, format string, args ...any) {
		b.WriteString(label + "|" + strings.TrimSpace(fmt.Sprintf(format, args...)) + "\n")
	}
	showConnection(line, &pb.ControllerConnection{
		Address: "192.168.0.10:6650", Connected: true, Since: at(time.Minute), Confirmed: at(time.Second), Cluster: "1234", CertificateExpires: at(-time.Hour),
	}, now)
	showConnection(line, &pb.ControllerConnection{Address: "192.168.0.10:6650", Since: at(5 * time.Minute), Error: "connection refused"}, now)
	showConnection(line, nil, now)
	want := `Controller:|192.168.0.10:6650, connected for 1m0s
|the tables were current 1s ago; cluster 1234
|the certificate of the node is valid until 2026-01-02T05:04:05Z
Controller:|not connected for 5m0s, what is in force stays: 192.168.0.10:6650: connection refused
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestShowRefusal(t *testing.T) {
	doc := objectDoc{
		"metadata": map[string]any{"name": "node1"},
		"status": map[string]any{"refused": "9", "version": "8", "problems": []any{
			map[string]any{"field": "nodes[0].address", "reason": "192.168.0.1 is no address of this node", "remedy": "correct it"},
		}},
	}
	var b strings.Builder
	showRefusal(&b, doc)
	if want := "\nnode1 refused version 9 and keeps 8:\n- nodes[0].address: 192.168.0.1 is no address of this node: correct it\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

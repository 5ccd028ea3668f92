package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ringway/control"
	pb "ringway/control/ringwayv1"
)

// TestGet locks what scripts and eyes read.
func TestGet(t *testing.T) {
	serve(t, &node{})
	for _, l := range newGetCommand().Commands() {
		if _, objects := viewOf(l.Name()); objects && !slices.ContainsFunc(listings, func(k listing) bool { return k.name == l.Name() }) {
			continue // a controller's: TestGetObjects
		}
		for _, format := range []string{"table", "wide", "json", "yaml"} {
			args := []string{"get", l.Name(), "-o", format}
			if format == "table" {
				args = args[:2]
			}
			code, stdout, stderr := ringway(t, args...)
			if code != 0 || stderr != "" {
				t.Errorf("%v: exit code %d, %q", args, code, stderr)
			}
			golden(t, l.Name()+"."+format, stdout)
		}
		for _, alias := range l.Aliases {
			code, byAlias, _ := ringway(t, "get", alias, "-o", "json")
			if _, byName, _ := ringway(t, "get", l.Name(), "-o", "json"); code != 0 || byAlias != byName {
				t.Errorf("get %s is not get %s", alias, l.Name())
			}
		}
	}
}

func TestEmptyListIsAList(t *testing.T) {
	var b bytes.Buffer
	if err := output("json").write(&b, &pb.GetRoutesResponse{}, nil); err != nil || b.String() != "{\n  \"items\": []\n}\n" {
		t.Errorf("got %q, %v", b.String(), err)
	}
}

func TestStatus(t *testing.T) {
	n := &node{}
	serve(t, n)
	code, stdout, _ := ringway(t, "status", "-o", "json")
	if code != 0 {
		t.Errorf("a healthy node gives exit code %d", code)
	}
	golden(t, "status.json", stdout)

	n.mu.Lock()
	n.reasons = []string{"port trunk0 queue 0 is down", "the last table set was refused"}
	n.mu.Unlock()
	code, stdout, stderr := ringway(t, "status", "-o", "json")
	if code != 1 || stderr != "" {
		t.Errorf("an unhealthy node gives exit code %d and %q", code, stderr)
	}
	var v struct {
		Healthy *bool
		Reasons []string
	}
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || v.Healthy == nil || *v.Healthy || !reflect.DeepEqual(v.Reasons, n.reasons) {
		t.Errorf("got %+v, %v", v, err)
	}
	if code, stdout, _ := ringway(t, "status"); code != 1 || !strings.HasPrefix(stdout, "Ringway:       2 problem(s)\n") {
		t.Errorf("exit code %d and\n%s", code, stdout)
	}
}

// TestStatusScreen shows the screen at a fixed time.
func TestStatusScreen(t *testing.T) {
	n := &node{}
	client, err := control.NewClient(serve(t, n))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for name, reasons := range map[string][]string{"healthy": nil, "unhealthy": {"port trunk0 queue 0 is down", "the last table set was refused:\nrouting: missing"}} {
		n.mu.Lock()
		n.reasons = reasons
		n.mu.Unlock()
		s, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, wide := range []bool{false, true} {
			var b bytes.Buffer
			if err := showStatus(&b, s, started.Add(90*time.Minute), wide); err != nil {
				t.Fatal(err)
			}
			file := "status-" + name + ".table"
			if wide {
				file = "status-" + name + ".wide"
			}
			golden(t, file, b.String())
		}
	}
	s, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Tables.Applied, s.Masquerade = nil, &pb.MasqueradeStatus{}
	var b bytes.Buffer
	if err := showStatus(&b, s, started, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "Masquerading:  off: no table set is applied yet\n") {
		t.Errorf("without tables:\n%s", b.String())
	}
	if !strings.Contains(b.String(), "Tables:        none applied yet\n") || strings.Contains(b.String(), "Routing:") {
		t.Errorf("without tables:\n%s", b.String())
	}
}

func TestEndpointCommands(t *testing.T) {
	n := &node{}
	serve(t, n)
	code, stdout, stderr := ringway(t, "endpoint", "add", "pod1", "--netns", "pod1", "--ip", "10.200.0.9", "--label", "app=web", "--label", "x=", "--port", "http=80")
	if code != 0 || stderr != "" || stdout != "endpoint pod1 has 10.200.0.9 on eth0 in pod1\n" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = ringway(t, "endpoint", "add", "pod2", "--netns", "/proc/1/ns/net", "--ifname", "net1", "-o", "json")
	var e struct{ Name, Ifname, State string }
	if err := json.Unmarshal([]byte(stdout), &e); code != 0 || err != nil || e.Name != "pod2" || e.Ifname != "net1" || e.State != "up" {
		t.Errorf("exit code %d, %v\n%s", code, err, stdout)
	}
	if code, stdout, stderr := ringway(t, "endpoint", "del", "pod1"); code != 0 || stdout+stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := ringway(t, "endpoint", "add", "Pod", "--netns", "x"); code != 1 || !strings.HasPrefix(stderr, "ringway: name: \"Pod\" is not an RFC 1123 name: ") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if len(n.added) != 2 || n.added[0].Address.String() != "10.200.0.9" || !reflect.DeepEqual(n.added[0].Labels, map[string]string{"app": "web", "x": ""}) ||
		!reflect.DeepEqual(n.added[0].Ports, []string{"http=80/TCP"}) ||
		n.added[1].Netns != "/proc/1/ns/net" || n.added[1].Address.IsValid() || !reflect.DeepEqual(n.deleted, []string{"pod1"}) {
		t.Errorf("the agent was asked for %+v and to delete %v", n.added, n.deleted)
	}
	t.Chdir("/run")
	if r, err := addRequest("p", "./netns/x", "", "eth0", nil); err != nil || r.GetNetns() != "/run/netns/x" {
		t.Errorf("a relative path is sent as %q, %v", r.GetNetns(), err)
	}
}

func TestCompletionKnowsTheKinds(t *testing.T) {
	code, stdout, _ := ringway(t, "__complete", "get", "")
	var kinds []string
	for line := range strings.Lines(stdout) {
		if kind, _, ok := strings.Cut(line, "\t"); ok {
			kinds = append(kinds, kind)
		}
	}
	if got := strings.Join(kinds, " "); code != 0 || got != "drops endpoints flows masquerade namespaces nat neighbors networkpolicies nodes policies pools ports redirects routes routingconfig services" {
		t.Errorf("exit code %d, got %s", code, got)
	}
}

func TestManyPodsOfARedirect(t *testing.T) {
	var b bytes.Buffer
	r := &pb.RedirectStatus{Namespace: "default", Name: "r", MorePods: 7, Pods: []*pb.RedirectPod{{Endpoint: "p"}}}
	if err := showRedirectPods(&b, r); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.Contains(got, "  and 7 pods with fewer queries\n") || strings.Contains(got, "Some of the last queries") {
		t.Errorf("got\n%s", got)
	}
}

func TestBySource(t *testing.T) {
	for _, c := range []struct {
		few      int
		excluded string // joined by |
		want     string
	}{
		{3, "", ""},
		{3, "10.0.0.0/8", "10.0.0.0/8"},
		{3, "1.0.0.0/8 (a b)|2.0.0.0/8 (a b)|3.0.0.0/8 (c)|4.0.0.0/8 (a b)", "1.0.0.0/8, 2.0.0.0/8 (a b)|3.0.0.0/8 (c)|4.0.0.0/8 (a b)"},
		{1, "1.0.0.0/8 (a)|2.0.0.0/8 (a)|3.0.0.0/8 (a)", "1.0.0.0/8, and 2 more (a)"},
		{-1, "1.0.0.0/8 (a)|2.0.0.0/8 (a)|3.0.0.0/8 (a)", "1.0.0.0/8, 2.0.0.0/8, 3.0.0.0/8 (a)"},
	} {
		var excluded []string
		if c.excluded != "" {
			excluded = strings.Split(c.excluded, "|")
		}
		if got := strings.Join(bySource(c.few, excluded), "|"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.excluded, got, c.want)
		}
	}
}

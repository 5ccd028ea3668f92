package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// badFile is a tables file that must be refused. It is the good one with one
// text in place of another, or with more behind it.
type badFile struct {
	name, replace, by, behind string
	problem                   string // that status shows: the field, and the reason where the case before has the same field
}

var badFiles = []badFile{
	{name: "not YAML", behind: "nodes: [\n", problem: "did not find expected"},
	{name: "a key twice", behind: "routing: direct\n", problem: "key \"routing\" already set"},
	{name: "two documents", behind: "---\nrouting: direct\n", problem: "a second YAML document"},
	{name: "unknown key", behind: "rotuing: direct\n", problem: "rotuing"},
	{name: "unknown key of a node", replace: "vtepMac:", by: "mac:", problem: "nodes[0].mac"},
	{name: "key as the API has it", replace: "nodeCidrs:", by: "node_cidrs:", problem: "nodes[0].node_cidrs"},
	{name: "number for a name", replace: "name: node2", by: "name: 2", problem: "nodes[1].name"},
	{name: "word for a boolean", behind: "mssClamp: maybe\n", problem: "mssClamp"},
	{name: "word for a number", replace: "vni: 42", by: "vni: many", problem: "vxlan.vni: many"},
	{name: "fraction", replace: "port: 8472", by: "port: 84.72", problem: "vxlan.port"},
	{name: "negative version", replace: "version: 1", by: "version: -1", problem: "version"},
	{name: "routing in capitals", replace: "routing: overlay", by: "routing: Overlay", problem: "routing"},
	{name: "VNI 0", replace: "vni: 42", by: "vni: 0", problem: "vxlan.vni: 0 is"},
	{name: "VNI of 25 bits", replace: "vni: 42", by: "vni: 16777216", problem: "vxlan.vni: 16777216 is"},
	{name: "port of 17 bits", replace: "port: 8472", by: "port: 65536", problem: "vxlan.port"},
	{name: "this node is missing", replace: "name: node1", by: "name: other", problem: "nodes"},
	{name: "name twice", replace: "name: node3", by: "name: node2", problem: "nodes[2].name"},
	{name: "IPv6 address", replace: "address: 192.168.0.101", by: "address: 2001:db8::1", problem: "nodes[1].address"},
	{name: "address twice", replace: "address: 192.168.0.102", by: "address: 192.168.0.101", problem: "nodes[2].address"},
	{name: "address of a pod", replace: "address: 192.168.0.101", by: "address: 10.200.3.9", problem: "nodes[1].address"},
	{name: "CIDR with host bits", replace: "10.200.1.0/24", by: "10.200.1.7/24", problem: "nodes[1].nodeCidrs[0]: 10.200.1.7/24 has host bits"},
	{name: "CIDRs that overlap", replace: "10.200.1.0/24", by: "10.200.0.0/23", problem: "nodes[1].nodeCidrs[0]: 10.200.0.0/23 overlaps"},
	{name: "group MAC", replace: "vtepMac: 02:52:c0:a8:00:65", by: "vtepMac: 03:52:c0:a8:00:65", problem: "nodes[1].vtepMac"},
}

// TestBadFilesAreRefused writes one bad tables file after the other while
// traffic runs. ringway status says why each is refused and fails; traffic does
// not notice, and a good file heals.
func TestBadFilesAreRefused(t *testing.T) {
	l := fileLab(t, Options{})
	doc, err := os.ReadFile(l.Tables("node1"))
	must(t, err)
	good := string(doc)
	before, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
	must(t, err)
	traffic, err := l.StartFlow("pod1", "pod2", l.Address("pod2"), time.Millisecond)
	must(t, err)
	for _, bad := range badFiles {
		spoilt := strings.Replace(good, bad.replace, bad.by, 1) + bad.behind
		if spoilt == good {
			t.Fatalf("%s: %q is not in the good file:\n%s", bad.name, bad.replace, good)
		}
		must(t, writeFile(l.Tables("node1"), []byte(spoilt)))
		waitStatus(t, l, bad.name, bad.problem)
	}
	must(t, os.Remove(l.Tables("node1")))
	waitStatus(t, l, "no file", "read the tables file")
	after, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
	must(t, err)
	if after.GetGeneration() != before.GetGeneration() || after.GetTables().GetVersion() != before.GetTables().GetVersion() {
		t.Errorf("generation %d and version %d became %d and %d", before.GetGeneration(), before.GetTables().GetVersion(),
			after.GetGeneration(), after.GetTables().GetVersion())
	}
	must(t, writeFile(l.Tables("node1"), []byte(strings.Replace(good, "version: 1", "version: 2", 1))))
	waitStatus(t, l, "a good file", "")
	r, err := traffic.Stop()
	must(t, err)
	if r.Lost != 0 || r.Duplicates != 0 || r.Sent < 500 {
		t.Errorf("traffic: %+v", r)
	}
}

// waitStatus waits until ringway status on node1 shows a problem that begins as
// said and fails for it, or is healthy if there is to be none.
func waitStatus(t *testing.T, l *Lab, name, problem string) {
	t.Helper()
	waitStatusOf(t, l, "node1", name, problem)
}

func waitStatusOf(t *testing.T, l *Lab, host, name, problem string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		out, err := l.Command(host, l.state.Binary, "status").Output()
		var exit *exec.ExitError
		failed := errors.As(err, &exit)
		if err != nil && !failed {
			t.Fatal(err)
		}
		if problem == "" && !failed || problem != "" && failed && exit.ExitCode() == 1 && strings.Contains(string(out), problem) {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%s: status (%v) does not show %q:\n%s", name, err, problem, out)
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

package lab

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringway/internal/netnstest"
)

// TestSecondFormByCommands has two controllers on three etcd members, by the commands
// alone, and leaves nothing.
func TestSecondFormByCommands(t *testing.T) {
	netnstest.Root(t)
	binary := besideEtcd(t)
	prefix := testPrefix(t, "h")
	t.Cleanup(func() { must(t, Down(prefix)) })
	lab := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(testContext(t, time.Minute), binary, append([]string{"lab", "--prefix", prefix}, args...)...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, errs.String())
		}
		return string(out)
	}
	before := machine(t, prefix)
	lab("up", "--controllers", "2", "--etcd", "3")
	var list struct{ Items []HostStatus }
	must(t, json.Unmarshal([]byte(lab("status", "-o", "json")), &list))
	running, socket := map[string]bool{}, map[string]string{}
	for _, h := range list.Items {
		running[h.Name], socket[h.Name] = h.Pid != 0, h.Socket
		if h.Pid != 0 && (h.Socket == "" || h.Config == "" || h.Log == "" || h.Tables != "") {
			t.Errorf("status of %s: %+v", h.Name, h)
		}
	}
	for name, want := range map[string]bool{"ctrl1": true, "ctrl2": true, "ctrl3": false, "etcd1": true, "etcd3": true, "node4": true, "node3": false} {
		if got, ok := running[name]; !ok || got != want {
			t.Errorf("%s runs: %v, want %v", name, got, want)
		}
	}
	lab("kill", "etcd2")
	lab("kill", "ctrl1")
	if out := lab("exec", "ctrl2", "--", "ringway", "get", "nodes", "-o", "json", "--controller", socket["ctrl2"]); !strings.Contains(out, "10.200.3.0/24") {
		t.Errorf("the other controller does not know the nodes: %s", out)
	}
	lab("start", "etcd2")
	lab("start", "ctrl1")
	lab("down")
	if after := machine(t, prefix); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// besideEtcd is a ringway that finds an etcd in its own directory.
func besideEtcd(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(binaryDir, "second")
	must(t, err)
	for name, build := range map[string]func() (string, error){"ringway": builtBinary, "etcd": builtEtcd} {
		path, err := build()
		must(t, err)
		must(t, os.Link(path, filepath.Join(dir, name)))
	}
	return filepath.Join(dir, "ringway")
}

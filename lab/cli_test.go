package lab

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ringway/internal/netnstest"
)

// cli runs ringway as a user does, and returns what it printed and its exit code.
func cli(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	path, err := builtBinary()
	must(t, err)
	cmd := exec.CommandContext(testContext(t, time.Minute), path, args...)
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestCommandLine goes through a lab's life by the commands alone.
func TestCommandLine(t *testing.T) {
	netnstest.Root(t)
	prefix := testPrefix(t, "c")
	lab := func(args ...string) (string, string, int) {
		return cli(t, "", append([]string{"lab", "--prefix", prefix}, args...)...)
	}
	t.Cleanup(func() { must(t, Down(prefix)) })
	before := machine(t, prefix)

	if out, errs, code := lab("up"); code != 0 || out != "" || !strings.Contains(errs, "agent on node4") {
		t.Fatalf("up: %d %q %q", code, out, errs)
	}
	out, _, code := lab("status", "-o", "json")
	var list struct{ Items []HostStatus }
	must(t, json.Unmarshal([]byte(out), &list))
	if code != 0 || len(list.Items) != 12 || list.Items[3].Name != "node1" || list.Items[3].Pid == 0 {
		t.Errorf("status: %d %s", code, out)
	}
	if out, _, code := lab("exec", "pod1", "--", "ringway", "status", "-o", "json"); code != 0 || !strings.Contains(out, `"node1"`) {
		t.Errorf("ringway finds the agent of a pod's node: %d %s", code, out)
	}
	if out, _, code := cli(t, "in", "lab", "exec", "--prefix", prefix, "pod2", "--", "sh", "-c", "cat; exit 7"); code != 7 || out != "in" {
		t.Errorf("exec passes input, output and exit code: %d %q", code, out)
	}
	if out, errs, code := lab("exec", "node3", "--", "ringway", "get", "nodes", "-o", "json"); code != 0 || !strings.Contains(out, "10.200.3.0/24") {
		t.Errorf("ringway finds the controller: %d %s %s", code, out, errs)
	}
	for _, args := range [][]string{
		{"kill", "ctrl1"}, {"kill", "node2"}, {"start", "node2"}, {"start", "ctrl1"}, {"stop", "node4"}, {"stop", "node4"},
	} {
		if _, errs, code := lab(args...); code != 0 {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
	if out, _, _ := lab("status"); !strings.Contains(out, "stopped") {
		t.Errorf("status does not show the stopped agent:\n%s", out)
	}
	checkLabErrors(t, lab)
	if _, errs, code := lab("down"); code != 0 {
		t.Errorf("down: %d %s", code, errs)
	}
	if after := machine(t, prefix); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func checkLabErrors(t *testing.T, lab func(args ...string) (string, string, int)) {
	t.Helper()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "down first", []string{"up"}},
		{1, "use one of lan, router", []string{"exec", "node9", "--", "true"}},
		{1, "use one of node1, node2, node4, ctrl1", []string{"kill", "node3"}},
		{1, "runs already", []string{"start", "node1"}},
		{1, "runs already", []string{"start", "ctrl1"}},
		{1, "no-such-command", []string{"exec", "pod1", "--", "no-such-command"}},
		{2, "routing", []string{"up", "--routing", "magic"}},
		{2, "add etcd members", []string{"up", "--controllers", "2"}},
		{2, "make etcd", []string{"up", "--controllers", "2", "--etcd", "3"}},
		{2, "tables file", []string{"up", "--tables", "file", "--etcd", "3"}},
		{2, "controller or file", []string{"up", "--tables", "etcd"}},
		{2, "json, yaml or wide", []string{"status", "-o", "xml"}},
		{2, "no command", []string{"exec", "pod1", "--"}},
		{2, "arg", []string{"kill"}},
	} {
		out, errs, code := lab(c.args...)
		if code != c.code || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit %d, want %d; output %q, errors %q, want one line with %q", c.args, code, c.code, out, errs, c.want)
		}
	}
}

// TestInterruptedUpLeavesNothing sends Ctrl-C while the lab is being built.
func TestInterruptedUpLeavesNothing(t *testing.T) {
	netnstest.Root(t)
	path, err := builtBinary()
	must(t, err)
	prefix := testPrefix(t, "i")
	before := machine(t, prefix)
	cmd := exec.Command(path, "lab", "up", "--prefix", prefix)
	must(t, cmd.Start())
	for deadline := time.Now().Add(10 * time.Second); !namespaceExists(prefix + "node4"); {
		if time.Now().After(deadline) {
			t.Fatal("nothing is built")
		}
		time.Sleep(time.Millisecond)
	}
	must(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted up succeeds")
		must(t, Down(prefix))
	}
	if after := machine(t, prefix); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringway/internal/netnstest"
)

// binaryDir holds the binary under test; TestMain removes it.
var binaryDir string

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "ringway-lab-test-"); err != nil {
		return 1, err
	}
	code := m.Run()
	return code, os.RemoveAll(binaryDir)
}

// builtBinary builds ringway, once and only if a test needs it.
var builtBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "ringway")
	if out, err := exec.Command("go", "build", "-o", path, "ringway/cmd/ringway").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ringway: %w: %s", err, out)
	}
	return path, nil
})

// agentLab is a lab with agents, and a controller that they have their tables from,
// that lives as long as the test. When the test fails, it shows what they have to
// say.
func agentLab(t *testing.T, o Options) *Lab {
	t.Helper()
	o.Controllers = max(o.Controllers, 1)
	return fileLab(t, o)
}

// fileLab is an agentLab whose agents have their tables from files, unless the
// options name controllers.
func fileLab(t *testing.T, o Options) *Lab {
	t.Helper()
	netnstest.Root(t)
	var err error
	if o.Binary, err = builtBinary(); err != nil {
		t.Fatal(err)
	}
	if o.Prefix == "" {
		o.Prefix = testPrefix(t, "e")
	}
	l, err := Up(testContext(t, 30*time.Second), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showAgents(t, l)
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// showAgents logs what each program wrote last and what the agents dropped.
func showAgents(t *testing.T, l *Lab) {
	for _, name := range slices.Concat(l.Controllers(), l.EtcdMembers()) {
		d, err := l.daemon(name)
		must(t, err)
		t.Logf("%s log:\n%s", name, lastLines(d.logFile, 15))
	}
	for _, host := range l.Agents() {
		t.Logf("%s log:\n%s", host, lastLines(l.LogFile(host), 15))
		if pid, _ := l.Pid(host); pid == 0 {
			continue
		}
		out, err := l.Command(host, l.state.Binary, "get", "drops").CombinedOutput()
		t.Logf("%s drops (%v):\n%s", host, err, out)
	}
}

// lastLines are the last lines of a file, or why they cannot be read.
func lastLines(path string, count int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

func testContext(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// builtEtcd builds etcd, once and only if a test needs it.
var builtEtcd = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "etcd", "etcd") // not beside ringway, as with CoreDNS
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "go.etcd.io/etcd/server/v3")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0") // as make etcd does it: one build cache serves both
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build etcd: %w: %s", err, out)
	}
	return path, nil
})

// haLab is a lab with two controllers on three etcd members.
func haLab(t *testing.T, o Options) *Lab {
	t.Helper()
	var err error
	if o.EtcdBinary, err = builtEtcd(); err != nil {
		t.Fatal(err)
	}
	o.Controllers, o.Etcd = 2, 3
	return agentLab(t, o)
}

// TestTour is what make demo shows.
func TestTour(t *testing.T) {
	l := dnsLab(t, Options{})
	var out strings.Builder
	err := l.Tour(testContext(t, 2*time.Minute), &out)
	if err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// TestTourNoticesTrouble cuts node2 off: a tour that still held would prove
// nothing.
func TestTourNoticesTrouble(t *testing.T) {
	l := agentLab(t, Options{})
	must(t, l.SetLink("lan", "node2", false))
	tr := &tour{Lab: l, ctx: testContext(t, time.Minute), note: t.Logf}
	if err := tr.overlay(); err == nil {
		t.Error("pod2 is reached over a link that is down")
	}
	must(t, l.SetLink("lan", "node2", true))
	if _, err := l.WaitReachable("pod1", l.Address("pod2"), 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := tr.path("pod1", "pod2", false); err == nil {
		t.Error("an outer header where none is wanted is not noticed")
	}
}

package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"ringway/internal/filewatch"
)

// logBuffer is a log that a test can read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newLog() (*slog.Logger, *logBuffer) {
	b := &logBuffer{}
	return slog.New(slog.NewTextHandler(b, nil)), b
}

func doc(version int) string {
	return fmt.Sprintf("version: %d\nrouting: overlay\nnodes: [{name: node1, address: 192.168.0.100, nodeCidrs: [10.200.0.0/24]}]\n", version)
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// watch starts to watch path; the test ends it.
func watch(t *testing.T, path string) (*fakeEngine, *logBuffer) {
	t.Helper()
	e := newFakeEngine()
	log, text := newLog()
	f, err := openTablesFile(path, &applier{engine: e, node: "node1"}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return e, text
}

func TestTablesFileIsFollowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tables.yaml")
	put(t, path, doc(1))
	e, log := watch(t, path)
	e.waitOffer(t)

	put(t, path, doc(2)) // in place
	e.waitOffer(t)

	put(t, filepath.Join(dir, "new"), doc(3)) // as careful editors do
	if err := os.Rename(filepath.Join(dir, "new"), path); err != nil {
		t.Fatal(err)
	}
	e.waitOffer(t)

	put(t, path, "routing: teleport\n") // refused, and the old one stays
	e.waitOffer(t)
	if got := e.Status(); got.TablesVersion != 3 || !strings.HasPrefix(got.TablesError, `routing: "teleport" is not known`) {
		t.Errorf("after a wrong file the status says %+v", got)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	e.waitOffer(t)
	if got := e.Status().TablesError; !strings.Contains(got, "read the tables file") {
		t.Errorf("after the file went away the status says %q", got)
	}

	put(t, path, doc(3)) // what was in force before, and still is good
	e.waitOffer(t)
	if got, want := e.versions(), []uint64{1, 2, 3, 3}; !reflect.DeepEqual(got, want) {
		t.Errorf("applied versions %v, want %v", got, want)
	}
	if got := e.Status(); got.TablesError != "" || got.TablesSource != "file:"+path {
		t.Errorf("at the end the status says %+v", got)
	}
	if n := strings.Count(log.String(), "teleport"); n != 1 {
		t.Errorf("the wrong file is in the log %d times, want once:\n%s", n, log)
	}
}

// TestHalfWrittenFile writes a file in pieces, each of them wrong or a different
// set, faster than the watcher's patience.
func TestHalfWrittenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables.yaml")
	put(t, path, doc(1))
	e, _ := watch(t, path)
	e.waitOffer(t)
	f, err := os.OpenFile(path, os.O_TRUNC|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range strings.SplitAfter(doc(2), "\n") {
		if _, err := f.WriteString(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for e.Status().TablesVersion != 2 { // a slow machine may let a piece be seen, refused and mended
		e.waitOffer(t)
	}
}

func TestTouchedFileIsNotAppliedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables.yaml")
	put(t, path, doc(1))
	e, _ := watch(t, path)
	e.waitOffer(t)
	put(t, path, doc(1))
	put(t, path+".other", "x") // a neighbour in the directory
	time.Sleep(3 * filewatch.Settle)
	put(t, path, doc(2))
	e.waitOffer(t)
	if got, want := e.versions(), []uint64{1, 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("applied versions %v, want %v", got, want)
	}
}

// TestSymlinkSwap is what Kubernetes does to a mounted ConfigMap: FILE leads to
// ..data/FILE, and ..data to a directory that changes.
func TestSymlinkSwap(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		sub := filepath.Join(dir, fmt.Sprintf("..%d", i))
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(sub, "tables.yaml"), doc(i+1))
	}
	swap := func(i int) {
		tmp := filepath.Join(dir, "..tmp")
		if err := os.Symlink(fmt.Sprintf("..%d", i), tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap(0)
	path := filepath.Join(dir, "tables.yaml")
	if err := os.Symlink("..data/tables.yaml", path); err != nil {
		t.Fatal(err)
	}
	e, _ := watch(t, path)
	e.waitOffer(t)
	for i := 1; i < 3; i++ {
		swap(i)
		e.waitOffer(t)
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", i-1))); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(dir, "..2", "tables.yaml"), doc(4)) // behind the link, in place
	e.waitOffer(t)
	if got, want := e.versions(), []uint64{1, 2, 3, 4}; !reflect.DeepEqual(got, want) {
		t.Errorf("applied versions %v, want %v", got, want)
	}
}

func TestMissingTables(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tables.yaml")
	e, _ := watch(t, path)
	e.waitOffer(t)
	if err := e.lastRefused(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a missing file is remembered as %v", err)
	}
	put(t, path, doc(1))
	e.waitOffer(t)
	if got := e.versions(); len(got) != 1 {
		t.Errorf("applied versions %v, want one", got)
	}

	log, _ := newLog()
	_, err := openTablesFile(filepath.Join(dir, "no", "tables.yaml"), &applier{engine: e}, log)
	if err == nil || !strings.Contains(err.Error(), "make its directory or change the key tables") {
		t.Errorf("a missing directory gives %v", err)
	}
}

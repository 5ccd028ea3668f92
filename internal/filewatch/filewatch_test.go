package filewatch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch gives what the file holds at each look, "" where it cannot be read.
func watch(t *testing.T, path string) <-chan string {
	t.Helper()
	w, err := New(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	looks := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func() {
			doc, _ := os.ReadFile(path)
			looks <- string(doc)
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return looks
}

// expect waits until a look finds want; looks before that are allowed.
func expect(t *testing.T, looks <-chan string, want string) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case got := <-looks:
			if got == want {
				return
			}
		case <-timeout:
			t.Fatalf("nobody looked when the file held %q", want)
		}
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestChangesAreSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	looks := watch(t, path)
	expect(t, looks, "")
	put(t, path, "created")
	expect(t, looks, "created")
	put(t, path, "in place")
	expect(t, looks, "in place")
	put(t, path+".new", "renamed over")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect(t, looks, "renamed over")
	put(t, path, "the new inode")
	expect(t, looks, "the new inode")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect(t, looks, "")
}

// TestSymlinkSwap is a mounted ConfigMap: the file leads to ..data/f, and ..data
// to a directory that changes.
func TestSymlinkSwap(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.Symlink("..data/f", path); err != nil {
		t.Fatal(err)
	}
	looks := watch(t, path)
	expect(t, looks, "") // dangling
	for i := range 3 {
		sub := fmt.Sprintf("..%d", i)
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, sub, "f"), sub)
		if err := os.Symlink(sub, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		expect(t, looks, sub)
		put(t, filepath.Join(dir, sub, "f"), sub+" in place")
		expect(t, looks, sub+" in place")
	}
}

func TestDirectoryMustExist(t *testing.T) {
	if _, err := New(filepath.Join(t.TempDir(), "no", "f"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file whose coming would go unseen is accepted")
	}
}

package filewatch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch gives what the file holds at each look, "" where it cannot be read.
func watch(t *testing.T, path string) <-chan string {
	t.Helper()
	return watchBy(t, path, func() string {
		doc, _ := os.ReadFile(path)
		return string(doc)
	})
}

// watchBy gives what read finds at each look.
func watchBy(t *testing.T, path string, read func() string) <-chan string {
	t.Helper()
	w, err := New(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return runWatch(t, w, read)
}

func runWatch(t *testing.T, w *Watcher, read func() string) <-chan string {
	t.Helper()
	looks := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func() { looks <- read() })
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

// TestDirectory: a look finds the names of a directory's files and what they hold.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	looks := watchBy(t, dir, func() string {
		var found string
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			doc, _ := os.ReadFile(filepath.Join(dir, e.Name()))
			found += e.Name() + "=" + string(doc) + " "
		}
		return found
	})
	expect(t, looks, "") // missing
	for range 2 {        // another directory of the same name, the second time
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "a"), "1")
		expect(t, looks, "a=1 ")
		put(t, filepath.Join(dir, "b"), "2")
		expect(t, looks, "a=1 b=2 ")
		put(t, filepath.Join(dir, "a"), "3")
		expect(t, looks, "a=3 b=2 ")
		if err := os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "c")); err != nil {
			t.Fatal(err)
		}
		expect(t, looks, "a=3 c=2 ")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		expect(t, looks, "")
	}
}

// TestSeveral: changes of each are seen, wherever their links lead and whichever
// of them moves.
func TestSeveral(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "in", "b")
	for _, sub := range []string{"in", "x", "y"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link := func(path, target string) {
		t.Helper()
		if err := os.Symlink(target, path+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	x, y := filepath.Join(dir, "x", "f"), filepath.Join(dir, "y", "f")
	put(t, x, "1")
	put(t, y, "2")
	link(a, x)
	link(b, x)
	w, err := NewAll([]string{a, b}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	looks := runWatch(t, w, func() string {
		one, _ := os.ReadFile(a)
		two, _ := os.ReadFile(b)
		return string(one) + " " + string(two)
	})
	expect(t, looks, "1 1")
	put(t, x, "3")
	expect(t, looks, "3 3")
	link(a, y)
	expect(t, looks, "2 3")
	put(t, x, "4") // which b alone leads to
	expect(t, looks, "2 4")
	put(t, y, "5")
	expect(t, looks, "5 4")
	link(b, a) // by way of the directory that a is in
	expect(t, looks, "5 5")
	put(t, y, "6")
	expect(t, looks, "6 6")
	link(b, y)
	expect(t, looks, "6 6")
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	expect(t, looks, " 6")
	put(t, a, "7")
	expect(t, looks, "7 6")
}

// TestRestlessDirectory: a file is looked at though another one beside it never
// comes to rest.
func TestRestlessDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	looks := watch(t, path)
	expect(t, looks, "")
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(Settle / 10):
				_ = os.WriteFile(filepath.Join(dir, "log"), []byte("x"), 0o600)
			}
		}
	})
	defer group.Wait()
	defer close(stop)
	for _, content := range []string{"1", "2"} {
		put(t, path, content)
		expect(t, looks, content)
	}
}

func TestDirectoryMustExist(t *testing.T) {
	if _, err := New(filepath.Join(t.TempDir(), "no", "f"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file whose coming would go unseen is accepted")
	}
}

package nat

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watchRedirects follows path until the test ends; the function returned is the
// next update: "NAMESPACE/NAME FROM" of each redirect, or the error.
func watchRedirects(t *testing.T, path string) func() string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	updates, err := WatchRedirects(ctx, path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		for range updates { // until it is closed
			continue
		}
	})
	return func() string {
		t.Helper()
		select {
		case u := <-updates:
			if u.Err != nil {
				return u.Err.Error()
			}
			var all []string
			for _, s := range u.Redirects {
				all = append(all, s.ID()+" "+strings.ReplaceAll(s.From, path, "P"))
			}
			return strings.Join(all, ", ")
		case <-time.After(30 * time.Second):
			t.Fatal("no update")
			return ""
		}
	}
}

func expectUpdate(t *testing.T, next func() string, want string) {
	t.Helper()
	if got := next(); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestRedirectsFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redirects")
	next := watchRedirects(t, path)
	expectUpdate(t, next, "") // missing at the start
	putFile(t, path, nodeLocalDNS)
	expectUpdate(t, next, "kube-system/nodelocaldns P: line 1")
	putFile(t, path, edited("UDP", "udp"))
	expectUpdate(t, next, path+`: line 18: spec.redirectBackend.toPorts[0].protocol: "udp" is not known: write TCP or UDP`)
	putFile(t, path, nodeLocalDNS+"---\n"+metadataProxy)
	expectUpdate(t, next, "kube-system/nodelocaldns P: line 1, default/metadata P: line 24")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expectUpdate(t, next, "")
}

func TestRedirectsDirectoryIsFollowed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "redirects")
	next := watchRedirects(t, dir)
	expectUpdate(t, next, "")
	staged := t.TempDir()
	move := func(name, content string) { // in one step, and no look sees another name
		t.Helper()
		putFile(t, filepath.Join(staged, name), content)
		if err := os.Rename(filepath.Join(staged, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	putFile(t, filepath.Join(staged, "b.yaml"), nodeLocalDNS)
	putFile(t, filepath.Join(staged, ".hidden.yaml"), "x")
	putFile(t, filepath.Join(staged, "notes.txt"), "x")
	if err := os.Rename(staged, dir); err != nil {
		t.Fatal(err)
	}
	staged = t.TempDir()
	expectUpdate(t, next, "kube-system/nodelocaldns P/b.yaml: line 1")
	move("a.yml", metadataProxy)
	expectUpdate(t, next, "default/metadata P/a.yml: line 2, kube-system/nodelocaldns P/b.yaml: line 1")
	move("c.json", "{}")
	expectUpdate(t, next, dir+"/c.json: line 1: apiVersion: missing: write cilium.io/v2")
	move("c.json", "null")
	expectUpdate(t, next, "default/metadata P/a.yml: line 2, kube-system/nodelocaldns P/b.yaml: line 1")
	move("c.json", nodeLocalDNS)
	expectUpdate(t, next, fmt.Sprintf("%s/c.json: line 1: metadata.name: kube-system/nodelocaldns is also at %s/b.yaml: line 1: give each redirect a name of its own", dir, dir))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for got := next(); got != ""; got = next() { // file by file
		continue
	}
}

func TestSameRedirectsAreNoUpdate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	putFile(t, path, nodeLocalDNS)
	next := watchRedirects(t, path)
	next()
	putFile(t, path, nodeLocalDNS)
	putFile(t, path+".other", "a neighbour")
	time.Sleep(500 * time.Millisecond) // several times the watcher's patience
	putFile(t, path, metadataProxy)
	expectUpdate(t, next, "default/metadata P: line 2")
}

func TestWatchRedirectsRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := WatchRedirects(t.Context(), filepath.Join(dir, "no", "f"), slog.New(slog.DiscardHandler))
	if err == nil || !strings.HasSuffix(err.Error(), ": make its directory or choose another path") {
		t.Errorf("a missing directory gives %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "d", "a.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	next := watchRedirects(t, filepath.Join(dir, "d"))
	if got := next(); !strings.HasPrefix(got, "read the redirects: ") || !strings.Contains(got, "a.yaml is no file of at most") {
		t.Errorf("a directory in place of a file gives %s", got)
	}
}

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

// watchIPMasq follows path until the test ends; the function returned is the
// next update in the words of said, or the error.
func watchIPMasq(t *testing.T, path string, profile Profile) func() string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	updates, err := WatchIPMasq(ctx, path, profile, slog.New(slog.DiscardHandler))
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
			return said(u.Config)
		case <-time.After(30 * time.Second):
			t.Fatal("no update")
			return ""
		}
	}
}

// putFile renames a new file over path, so that no look sees half of it.
func putFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestIPMasqFileIsFollowed(t *testing.T) {
	for profile, defaults := range map[Profile]string{ProfileCilium: eleven, ProfileUpstream: three} {
		t.Run(string(profile), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ip-masq-agent")
			next := watchIPMasq(t, path, profile)
			expect := func(want string) {
				t.Helper()
				if got := next(); got != want {
					t.Fatalf("got  %s\nwant %s", got, want)
				}
			}
			expect(defaults) // missing at the start
			putFile(t, path, "nonMasqueradeCIDRs:\n- 10.1.0.0/16\n")
			expect("10.1.0.0/16@2")
			putFile(t, path, "nonMasqueradeCIDRs:\n- 10.1.0.0/16\n- ten\n")
			expect(path + `: line 3: "ten" is not a CIDR: write it as in 10.0.0.0/8`)
			putFile(t, path, "nonMasqueradeCIDRs:\n- 10.2.0.0/16\n")
			expect("10.2.0.0/16@2")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			expect(defaults)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			if got := next(); !strings.HasPrefix(got, "read the ip-masq-agent file: ") {
				t.Fatalf("a directory in place of the file gives %s", got)
			}
		})
	}
}

// TestIPMasqConfigMap is how Kubernetes changes a mounted file: it leads to
// ..data, and ..data to a directory that changes.
func TestIPMasqConfigMap(t *testing.T) {
	dir := t.TempDir()
	swap := func(i int, content string) {
		sub := fmt.Sprintf("..%d", i)
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		putFile(t, filepath.Join(dir, sub, "config"), content)
		if err := os.Symlink(sub, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap(0, "nonMasqueradeCIDRs: [10.0.0.0/16]")
	path := filepath.Join(dir, "config")
	if err := os.Symlink("..data/config", path); err != nil {
		t.Fatal(err)
	}
	next := watchIPMasq(t, path, ProfileCilium)
	for i := range 3 {
		if got, want := next(), fmt.Sprintf("10.%d.0.0/16@1", i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		swap(i+1, fmt.Sprintf("nonMasqueradeCIDRs: [10.%d.0.0/16]", i+1))
	}
}

func TestSameIPMasqFileIsNoUpdate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	putFile(t, path, "nonMasqueradeCIDRs: [10.0.0.0/16]")
	next := watchIPMasq(t, path, ProfileCilium)
	next()
	putFile(t, path, "nonMasqueradeCIDRs: [10.0.0.0/16]")
	putFile(t, path+".other", "a neighbour")
	time.Sleep(500 * time.Millisecond) // several times the watcher's patience
	putFile(t, path, "nonMasqueradeCIDRs: [10.1.0.0/16]")
	if got := next(); got != "10.1.0.0/16@1" {
		t.Errorf("got %s", got)
	}
}

func TestWatchIPMasqRefuses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	_, err := WatchIPMasq(t.Context(), filepath.Join(t.TempDir(), "no", "f"), ProfileCilium, log)
	if err == nil || !strings.HasSuffix(err.Error(), ": make its directory or choose another file") {
		t.Errorf("a missing directory gives %v", err)
	}
	if _, err := WatchIPMasq(t.Context(), filepath.Join(t.TempDir(), "f"), "calico", log); err == nil {
		t.Error("an unknown profile is taken")
	}
}

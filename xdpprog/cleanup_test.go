package xdpprog

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

func TestCleanupLeavesNothing(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, _, err := s.attach()
		if err != nil {
			return err
		}
		ifindex, _, err := addVeth("up0", "peer0")
		if err != nil {
			return err
		}
		u, err := AttachUplink(UplinkOptions{Ifindex: ifindex, Device: "up0", PinDir: s.dir, Queues: 1, Mode: "native"})
		if err != nil {
			return err
		}
		// Also beside a running agent, and twice.
		for range 2 {
			if err := Cleanup(s.dir); err != nil {
				return err
			}
		}
		for _, d := range append([]int{ifindex, s.near, s.far}, s.hosts...) {
			if prog, err := xdpOn(d); err != nil || prog != 0 {
				t.Errorf("device %d has program %d (%v)", d, prog, err)
			}
		}
		if left := pins(t, s.dir); len(left) != 0 {
			t.Errorf("%v is left", left)
		}
		if err := u.Close(); err != nil {
			return err
		}
		return l.Close()
	})
}

func TestCleanupOfNothing(t *testing.T) {
	for _, dir := range []string{filepath.Join(t.TempDir(), "none"), filepath.Join(pinDir(t), "none"), t.TempDir()} {
		if err := Cleanup(dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// A pin directory below the mount point goes itself, too.
func TestCleanupRemovesDirectory(t *testing.T) {
	root := pinDir(t)
	dir := filepath.Join(root, "ringway", "node1")
	if err := MountBPFFS(dir); err != nil {
		t.Fatal(err)
	}
	if err := Cleanup(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	if left := pins(t, root); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

// A pin that cannot be removed is named, and the rest goes all the same.
func TestCleanupNamesWhatIsLeft(t *testing.T) {
	dir := pinDir(t)
	ns := netnstest.New(t)
	ns.Do(t, func() error {
		ifindex, _, err := addVeth("up0", "peer0")
		if err != nil {
			return err
		}
		u, err := AttachUplink(UplinkOptions{Ifindex: ifindex, Device: "up0", PinDir: dir, Queues: 1, Mode: "native"})
		if err != nil {
			return err
		}
		defer u.Close()
		// A mount point cannot be removed.
		busy := filepath.Join(dir, "busy")
		if err := MountBPFFS(busy); err != nil {
			return err
		}
		if err := unix.Mount("bpf", busy, "bpf", 0, ""); err != nil {
			return err
		}
		err = Cleanup(dir)
		if err == nil || !strings.Contains(err.Error(), busy) {
			t.Errorf("error %v does not name %s", err, busy)
		}
		if left := pins(t, dir); len(left) != 1 {
			t.Errorf("left %v, want only the mount point", left)
		}
		if prog, err := xdpOn(ifindex); err != nil || prog != 0 {
			t.Errorf("program %d is still attached (%v)", prog, err)
		}
		return unix.Unmount(busy, 0)
	})
}

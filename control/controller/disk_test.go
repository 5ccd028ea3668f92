package controller

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringway/control"
)

// TestDiskFull: a controller whose embedded etcd has no disk left ends, and says what
// to do; with room again, it goes on from what was committed. A file system of its own
// needs root.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a tmpfs")
	}
	s := newSite(t)
	cfg := s.config("c1")
	mountDisk(t, cfg.DataDir, 200)
	process := s.command(cfg)
	var says bytes.Buffer
	process.Stderr = &says
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	t.Cleanup(func() { _ = process.Process.Kill() }) // most likely it has ended
	c := &testController{site: s, cfg: cfg, client: s.client("unix://"+cfg.Socket, control.TLSFiles{})}
	s.waitUp(c)
	ballast := fillDisk(t, cfg.DataDir)

	committed := 0
	for ; committed < 500; committed++ {
		if _, err := c.client.Apply(t.Context(), []string{blocksDoc(fmt.Sprint("p", committed), "{}")}); err != nil {
			break
		}
	}
	select {
	case err := <-ended:
		if process.ProcessState.ExitCode() != 1 {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("it does not end, after %d objects", committed)
	}
	line, more, _ := strings.Cut(says.String(), "\n")
	if more != "" {
		t.Errorf("it says more than a line: %s", more)
	}
	for _, want := range []string{"the embedded etcd stopped", unix.ENOSPC.Error(), "look after the disk that " + cfg.DataDir + "/etcd is on, and start the controller again"} {
		if !strings.Contains(line, want) {
			t.Errorf("it says %q, without %q", line, want)
		}
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.process(cfg)
	s.waitUp(c)
	objects, err := c.client.Get(t.Context(), "NetworkPolicy", "", "")
	if err != nil || len(objects) != committed && len(objects) != committed+1 {
		t.Errorf("%d objects are there, want %d, or one more whose answer never came: %v", len(objects), committed, err)
	}
}

// mountDisk mounts a small file system.
func mountDisk(t *testing.T, dir string, megabytes int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", megabytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fillDisk returns the file that takes all the room there was.
func fillDisk(t *testing.T, dir string) string {
	t.Helper()
	ballast, err := os.CreateTemp(dir, "ballast")
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	for part := make([]byte, 1<<16); err == nil; {
		_, err = ballast.Write(part)
	}
	return ballast.Name()
}

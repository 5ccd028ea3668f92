package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"ringway/control/store/storetest"
)

func TestDataDirIsOnesOwn(t *testing.T) {
	options := testOptions(t)
	options.Embedded.DataDir = filepath.Join(options.Embedded.DataDir, "a", "b")
	s := open(t, options)
	if info, err := os.Stat(options.Embedded.DataDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory has mode %v, %v", info.Mode(), err)
	}
	began := time.Now()
	_, err := Open(t.Context(), options)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), options.Embedded.DataDir) {
		t.Errorf("a second one: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to say so", took)
	}
	update(t, s, increment("a"))
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		says    string
	}{
		"neither":               {Options{}, "exactly one"},
		"both":                  {Options{Embedded: &Embedded{DataDir: t.TempDir()}, Endpoints: []string{"http://127.0.0.1:1"}}, "exactly one"},
		"no directory":          {Options{Embedded: &Embedded{}}, "data directory"},
		"plain to others":       {Options{Endpoints: []string{"http://192.0.2.1:2379"}}, "plain text"},
		"no certificate":        {Options{Endpoints: []string{"https://192.0.2.1:2379"}}, "certificate"},
		"no URL":                {Options{Endpoints: []string{"192.0.2.1:2379"}}, "etcd endpoints"},
		"no port":               {Options{Endpoints: []string{"http://127.0.0.1"}}, "etcd endpoints"},
		"listens for everybody": {listening("http://0.0.0.0:2379"), "plain text"},
		"listens by name":       {listening("http://localhost:2379"), "plain text"},
		"listens without files": {listening("https://127.0.0.1:2379"), "ringway pki issue etcd"},
		"listens on ftp":        {listening("ftp://127.0.0.1:2379"), "scheme"},
		"listens without port":  {listening("http://127.0.0.1"), "plain text"},
		"a relative socket":     {listening("unix://etcd.sock"), "absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.options.Embedded != nil && c.options.Embedded.Listen != "" {
				c.options.Embedded.DataDir = t.TempDir()
			}
			c.options.Log = testLog(t)
			s, err := Open(t.Context(), c.options)
			if err == nil {
				s.Close()
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want one that says %q", err, c.says)
			}
		})
	}
}

func listening(url string) Options { return Options{Embedded: &Embedded{Listen: url}} }

// TestOpenWithoutEtcd says where it looked, and ends.
func TestOpenWithoutEtcd(t *testing.T) {
	_, err := Open(t.Context(), Options{Endpoints: []string{"http://127.0.0.1:1"}, Timeout: 2 * time.Second, Log: testLog(t)})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "http://127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}

// fill overwrites one key with large values until etcd refuses.
func fill(t *testing.T, s *Store) error {
	t.Helper()
	value := bytes.Repeat([]byte("1"), 1<<19)
	for range 200 {
		value[0] = '1' + (value[0]-'0')%9
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		_, err := s.Update(ctx, func(tx Tx) error { return tx.Put(counter("large"), value) })
		cancel()
		if err != nil {
			return err
		}
	}
	t.Fatal("it is never full")
	return nil
}

func anything(Key, []byte) (any, error) { return nil, nil }

// TestQuota: the database is full. Nothing more is changed, reading goes on, and a
// start makes room.
func TestQuota(t *testing.T) {
	options := testOptions(t)
	options.Decode = anything
	options.Embedded.QuotaBytes = 16 << 20
	s := open(t, options)
	update(t, s, putOne)
	err := fill(t, s)
	if !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "start the controller again") {
		t.Errorf("Update: %v", err)
	}
	if err := s.Health(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Health: %v", err)
	}
	version, view := s.View().Version(), s.View()
	if _, found := view.Get(counter("a")); !found {
		t.Error("what was there is gone")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, options)
	if s.View().Version() != version {
		t.Errorf("version %d after the start, want %d", s.View().Version(), version)
	}
	if err := s.Health(); err != nil {
		t.Errorf("after the start: %v", err)
	}
	update(t, s, func(tx Tx) error { return tx.Put(counter("a"), []byte("2")) })
}

// TestQuotaOfWhatIsNeeded: there is nothing to compact. A larger quota helps.
func TestQuotaOfWhatIsNeeded(t *testing.T) {
	options := testOptions(t)
	options.Decode = anything
	options.Embedded.QuotaBytes = 8 << 20
	s := open(t, options)
	value := bytes.Repeat([]byte("1"), 1<<19)
	var err error
	for i := 0; err == nil && i < 100; i++ {
		_, err = s.Update(t.Context(), func(tx Tx) error { return tx.Put(counter(fmt.Sprint(i)), value) })
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, options)
	if err := s.Health(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("with the same quota: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	options.Embedded.QuotaBytes *= 16 // etcd looks at its size now and then only, and took more
	s = open(t, options)
	if err := s.Health(); err != nil {
		t.Errorf("with a larger quota: %v", err)
	}
	update(t, s, func(tx Tx) error { return tx.Put(counter("a"), []byte("2")) })
}

// TestQuotaOfMembers: what the error says is what helps.
func TestQuotaOfMembers(t *testing.T) {
	m := storetest.StartMembers(t, 3, "--quota-backend-bytes", "8000000")
	options := memberOptions(t, m)
	options.Decode = anything
	s := open(t, options)
	err := fill(t, s)
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "etcdctl --endpoints="+strings.Join(m.Endpoints, ",")+" compact") {
		t.Errorf("Update: %v", err)
	}
	if err := s.Health(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Health: %v", err)
	}
	client := rawClient(t, m.Endpoints[0])
	if _, err := client.Compact(t.Context(), int64(s.View().Version()), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range m.Endpoints {
		if _, err := client.Defragment(t.Context(), endpoint); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	update(t, s, putOne)
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

// TestDiskOfOneMemberFull: that member ends, the others go on, and it is one of them
// again once there is room. It needs root, as TestDiskFull does.
func TestDiskOfOneMemberFull(t *testing.T) {
	binary, err := storetest.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "m0")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	mountDisk(t, disk, 500)
	m, err := storetest.Start(binary, dir, 3)
	t.Cleanup(m.Stop)
	if err != nil {
		t.Fatal(err)
	}
	options := memberOptions(t, m)
	options.Decode = anything
	s := open(t, options)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 500<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	value := bytes.Repeat([]byte("1"), 1<<19)
	for i := range 150 { // 75 MB, more than the 64 MB that etcd has allocated
		update(t, s, func(tx Tx) error { return tx.Put(counter("large"), fmt.Append(value, i)) })
	}
	if asks(t, m.Endpoints[0], nil) == nil {
		t.Error("the member without a disk answers")
	}
	m.Kill(0)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	restart(t, m, 0)
	m.Kill(1) // so that it is needed
	update(t, s, putOne)
}

func putOne(tx Tx) error { return tx.Put(counter("a"), []byte("1")) }

// mountDisk mounts a small file system.
func mountDisk(t *testing.T, dir string, megabytes int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a tmpfs")
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

// TestDiskFull: the disk below the embedded etcd is full. The process lives, says so,
// and what was committed is there once there is room again. A file system of its own
// needs root. The controller is a process, as an etcd that failed ends with it.
func TestDiskFull(t *testing.T) {
	disk := t.TempDir()
	mountDisk(t, disk, 200)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 60<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(disk, "etcd")
	filled := controller(t, dir, "fill")
	committed, err := strconv.Atoi(filled)
	if err != nil || committed < 2 {
		t.Fatalf("it said %q, want how many changes it committed", filled)
	}
	if says := controller(t, dir, "open"); !strings.Contains(says, unix.ENOSPC.Error()) {
		t.Errorf("with the disk still full, it says %s", says)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if got := controller(t, dir, "open"); got != fmt.Sprint(committed) && got != fmt.Sprint(committed+1) {
		t.Errorf("%s changes are there, want %d, or one more whose answer never came", got, committed)
	}
}

// controller runs TestControllerProcess as a process and returns what it says.
func controller(t *testing.T, dir, what string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestControllerProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "STORE_DIR="+dir, "STORE_DO="+what)
	out, err := cmd.CombinedOutput()
	_, said, found := strings.Cut(string(out), "SAYS ")
	if !found {
		t.Fatalf("%s: %v\n%s", what, err, out)
	}
	said, _, _ = strings.Cut(said, "\n")
	return said
}

// TestControllerProcess is the process of controller.
func TestControllerProcess(t *testing.T) {
	dir := os.Getenv("STORE_DIR")
	if dir == "" {
		t.Skip("runs in a process of its own, for TestDiskFull")
	}
	options := Options{Embedded: &Embedded{DataDir: dir}, Timeout: 4 * time.Second, Decode: func(key Key, value []byte) (any, error) {
		n, _, _ := bytes.Cut(value, []byte(" "))
		return number(key, n)
	}}
	says := fmt.Sprint(0)
	s, err := Open(t.Context(), options)
	if err != nil {
		says = err.Error()
	} else if os.Getenv("STORE_DO") == "fill" {
		says = fillDisk(s)
	} else if item, found := s.View().Get(counter("large")); found {
		says = fmt.Sprint(item.Object)
	}
	fmt.Println("SAYS", says)
	os.Exit(0) // with what failed left as it is
}

// fillDisk returns how many changes were committed before the disk was full, or what
// is wrong.
func fillDisk(s *Store) string {
	ballast := strings.Repeat("x", 1<<20)
	for n := 1; n < 500; n++ {
		_, err := s.Update(context.Background(), func(tx Tx) error {
			return tx.Put(counter("large"), fmt.Append(nil, n, " ", ballast))
		})
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrEmbeddedFailed) || !errors.Is(s.Health(), ErrEmbeddedFailed) {
			return fmt.Sprintf("Update: %v; Health: %v", err, s.Health())
		}
		select {
		case <-s.Failed():
		default:
			return "Failed is not closed"
		}
		if _, err := s.Update(context.Background(), increment("a")); errors.Is(err, ErrUnknown) || !errors.Is(err, ErrEmbeddedFailed) {
			return fmt.Sprintf("after it: %v", err)
		}
		return fmt.Sprint(n - 1)
	}
	return "the disk was never full"
}

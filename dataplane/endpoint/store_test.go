package endpoint

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func load(t *testing.T, dir string) (s *Store, log string) {
	t.Helper()
	var out bytes.Buffer
	s, err := Load(dir, slog.New(slog.NewTextHandler(&out, nil)))
	must(t, err)
	return s, out.String()
}

func sample(name string, slot uint32) Record {
	return Record{
		Name: name, Slot: slot, Address: podAddr, MAC: MAC(slot), MTU: 1430, Netns: "/run/netns/" + name,
		NetnsInode: 1<<63 + 1, NetnsCookie: 1<<64 - 1, Ifname: "eth0", PodIfindex: 2, HostDevice: DeviceName(slot),
		Ifindex: 7, Labels: map[string]string{"app": "web"},
	}
}

func TestStoreRemembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, _ := load(t, dir)
	must(t, s.Put(sample("b", 2)))
	must(t, s.Put(sample("a", 1)))
	changed := sample("b", 2)
	changed.Ifindex = 9
	must(t, s.Put(changed))
	must(t, s.Put(sample("c", 3)))
	must(t, s.Delete("c"))
	must(t, s.Delete("c"))

	again, log := load(t, dir)
	if want := []Record{sample("a", 1), changed}; !reflect.DeepEqual(again.List(), want) || log != "" {
		t.Errorf("got %+v, log %q", again.List(), log)
	}
	if r, ok := again.Get("b"); !ok || r.Ifindex != 9 {
		t.Errorf("got %+v, %v", r, ok)
	}
	if _, ok := again.Get("c"); ok {
		t.Error("a deleted record is there")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("in the directory: %v", entries)
	}
}

func TestStoreSlots(t *testing.T) {
	s, _ := load(t, t.TempDir())
	alloc := func(name string, want uint32) {
		t.Helper()
		if got, err := s.AllocSlot(name, 3); err != nil || got != want {
			t.Errorf("slot of %s is %d, %v; want %d", name, got, err, want)
		}
	}
	alloc("a", 1)
	alloc("a", 1)
	alloc("b", 2) // though a has no record yet
	must(t, s.Put(sample("a", 1)))
	alloc("a", 1)
	alloc("c", 3)
	if _, err := s.AllocSlot("d", 3); err == nil || !strings.Contains(err.Error(), "maxEndpoints") {
		t.Errorf("error %v", err)
	}
	if err := s.Put(sample("d", 2)); err == nil {
		t.Error("a slot that is reserved for another name was taken")
	}
	if err := s.Put(sample("d", 0)); err == nil {
		t.Error("the host port's slot was taken")
	}
	must(t, s.Delete("b")) // given up before it was stored
	alloc("d", 2)
	must(t, s.Delete("a"))
	alloc("e", 1)
}

func TestStorePutsAsideWhatItCannotRead(t *testing.T) {
	for name, content := range map[string]string{
		"empty":     "",
		"cut":       `{"version":1,"endpoints":[{"name":"a"`,
		"version":   `{"version":99,"endpoints":[]}`,
		"one slot":  `{"version":1,"endpoints":[{"name":"a","slot":1,"mac":"02:52:57:00:00:01","address":"10.0.0.1"},{"name":"b","slot":1,"mac":"02:52:57:00:00:01","address":"10.0.0.2"}]}`,
		"one name":  `{"version":1,"endpoints":[{"name":"a","slot":1,"mac":"02:52:57:00:00:01","address":"10.0.0.1"},{"name":"a","slot":2,"mac":"02:52:57:00:00:01","address":"10.0.0.2"}]}`,
		"host slot": `{"version":1,"endpoints":[{"name":"a","slot":0,"mac":"02:52:57:00:00:01","address":"10.0.0.1"}]}`,
		"MAC":       `{"version":1,"endpoints":[{"name":"a","slot":1,"mac":"02:52:57:00:00:0x","address":"10.0.0.1"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, fileName), []byte(content), 0o600))
			s, log := load(t, dir)
			if len(s.List()) != 0 || !strings.Contains(log, "put aside") {
				t.Errorf("records %v, log %q", s.List(), log)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, fileName+".corrupt-*"))
			if len(aside) != 1 {
				t.Fatalf("put aside: %v", aside)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != content {
				t.Errorf("kept %q, %v", kept, err)
			}
			must(t, s.Put(sample("a", 1)))
		})
	}
}

func TestStoreKeepsWhatIsOnDiskWhenItCannotWrite(t *testing.T) {
	dir := t.TempDir()
	s, _ := load(t, dir)
	must(t, s.Put(sample("a", 1)))
	must(t, os.Rename(dir, dir+"-moved"))
	t.Cleanup(func() { _ = os.RemoveAll(dir + "-moved") })
	if err := s.Put(sample("b", 2)); err == nil {
		t.Error("stored without a directory")
	}
	if err := s.Delete("a"); err == nil {
		t.Error("deleted without a directory")
	}
	if got := s.List(); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("now %v", got)
	}
	again, _ := load(t, dir+"-moved")
	if !reflect.DeepEqual(again.List(), s.List()) {
		t.Errorf("on disk %v", again.List())
	}
}

func TestStoreIsSafeForConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	s, _ := load(t, dir)
	done := make(chan error)
	const n = 16
	for i := range n {
		go func() {
			name := fmt.Sprint("pod", i)
			slot, err := s.AllocSlot(name, n)
			if err == nil {
				err = s.Put(sample(name, slot))
			}
			done <- err
		}()
	}
	for range n {
		must(t, <-done)
	}
	again, log := load(t, dir)
	if len(again.List()) != n || log != "" {
		t.Errorf("%d records, log %q", len(again.List()), log)
	}
}

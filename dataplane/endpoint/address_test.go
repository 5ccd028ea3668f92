package endpoint

import (
	"bufio"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"
)

var podCIDRs = []netip.Prefix{netip.MustParsePrefix("10.200.0.0/24"), netip.MustParsePrefix("10.201.0.0/16")}

// TestFreeAddressAcrossKill ends a process that attaches and detaches pods with
// SIGKILL, again and again. No address may belong to two of those that are attached
// then, and one that was detached must have rested.
func TestFreeAddressAcrossKill(t *testing.T) {
	if dir := os.Getenv("RINGWAY_TEST_STORE"); dir != "" {
		churn(dir)
		return
	}
	dir := t.TempDir()
	given := 0
	for round := range 10 {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestFreeAddressAcrossKill$")
		c.Env = append(os.Environ(), "RINGWAY_TEST_STORE="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(20+10*round)*time.Millisecond, func() { _ = c.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); given++ {
			if lines.Text() == "FAIL" {
				t.Fatal("an address was given although it is taken")
			}
		}
		c.Wait()
	}
	if given == 0 {
		t.Fatal("no address was ever given")
	}
	s, err := Load(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]string{}
	for _, r := range s.List() {
		if other, twice := seen[r.Address]; twice {
			t.Errorf("%s belongs to %s and %s", r.Address, other, r.Name)
		}
		seen[r.Address] = r.Name
	}
	next, ok := s.FreeAddress(podCIDRs)
	if _, taken := seen[next]; !ok || taken {
		t.Errorf("the next address is %s, %v, of %d taken ones", next, ok, len(seen))
	}
}

// churn attaches pods until it is killed, and detaches every other one.
func churn(dir string) {
	s, err := Load(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println("FAIL")
		return
	}
	for n := 0; ; n++ {
		taken := map[netip.Addr]bool{}
		for _, r := range s.List() {
			taken[r.Address] = true
		}
		a, ok := s.FreeAddress(podCIDRs)
		if !ok || taken[a] {
			fmt.Println("FAIL")
			return
		}
		name := fmt.Sprintf("p%d-%d", os.Getpid(), n)
		slot, err := s.AllocSlot(name, 65535)
		if err != nil || s.Put(Record{Name: name, Slot: slot, Address: a}) != nil {
			fmt.Println("FAIL")
			return
		}
		fmt.Println(a)
		if n%2 == 0 {
			if err := s.Delete(name); err != nil {
				fmt.Println("FAIL")
				return
			}
		}
	}
}

func TestFreeAddressIsKept(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	s, err := Load(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := s.FreeAddress(podCIDRs)
	if err := s.Put(Record{Name: "a", Slot: 1, Address: first}); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if s, err = Load(dir, log); err != nil {
		t.Fatal(err)
	}
	if second, ok := s.FreeAddress(podCIDRs); !ok || second != first.Next() {
		t.Errorf("after %s comes %s, %v", first, second, ok)
	}
}

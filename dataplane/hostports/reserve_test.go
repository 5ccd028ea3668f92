package hostports

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// list is the kernel's list, by one read that is larger than any.
func list() (string, error) {
	f, err := os.Open(reservedPath)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text := make([]byte, 1<<20)
	n, err := f.Read(text)
	return strings.TrimSpace(string(text[:n])), err
}

func setList(text string) error { return os.WriteFile(reservedPath, []byte(text+"\n"), 0) }

// expectList compares the list in the thread's namespace.
func expectList(t *testing.T, when, want string) {
	t.Helper()
	got, err := list()
	if err != nil {
		t.Error(err)
	}
	if got != want {
		t.Errorf("%s: the list is %.200q, want %.200q", when, got, want)
	}
}

func TestReserve(t *testing.T) {
	tests := []struct {
		name   string
		before string
		ranges []Range
		want   string
	}{
		{"an empty list", "", []Range{{49152, 65535}}, "49152-65535"},
		{"several ranges in any order", "", []Range{{60000, 60001}, {1024, 2047}, {2048, 2048}}, "1024-2048,60000-60001"},
		{"others' ports stay", "22,8080,9000-9100", []Range{{49152, 65535}}, "22,8080,9000-9100,49152-65535"},
		{"beside and across others'", "100-200,300", []Range{{150, 250}, {251, 299}}, "100-300"},
		{"within others'", "100-200", []Range{{120, 130}}, "100-200"},
		{"nothing", "1-3,7", nil, "1-3,7"},
		{"all", "5", []Range{{0, 65535}}, "0-65535"},
	}
	n := newNode(t)
	for _, test := range tests {
		dir := t.TempDir()
		n.Do(t, func() error {
			err := setList(test.before)
			for _, when := range []string{"reserved", "reserved again"} {
				err = errors.Join(err, Reserve(test.ranges, dir))
				expectList(t, test.name+", "+when, test.want)
			}
			for _, when := range []string{"released", "released again"} {
				err = errors.Join(err, Release(dir))
				expectList(t, test.name+", "+when, test.before)
			}
			return err
		})
		left, err := os.ReadDir(dir)
		must(t, err)
		if len(left) != 0 {
			t.Errorf("%s: %d files are left", test.name, len(left))
		}
	}
}

func TestReserveOtherRanges(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	steps := []struct {
		ranges []Range
		want   string
	}{
		{[]Range{{50000, 50999}}, "22,50000-50999"},
		{[]Range{{49000, 51999}}, "22,49000-51999"},
		{[]Range{{50500, 50599}}, "22,50500-50599"},
		{[]Range{{20, 30}}, "20-30"},
		{[]Range{{60000, 60000}}, "22,60000"},
		{nil, "22"},
		{[]Range{{1, 2}}, "1-2,22"},
	}
	n.Do(t, func() error {
		err := setList("22")
		for _, step := range steps {
			err = errors.Join(err, Reserve(step.ranges, dir))
			expectList(t, fmt.Sprint(step.ranges), step.want)
		}
		err = errors.Join(err, Release(dir))
		expectList(t, "released", "22")
		return err
	})
}

func TestReserveLeavesWhatOthersChange(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	n.Do(t, func() error {
		err := errors.Join(setList("22"), Reserve([]Range{{50000, 50009}}, dir))
		err = errors.Join(err, setList("80,50000-50009"), Reserve([]Range{{50000, 50009}}, dir))
		expectList(t, "others changed theirs", "80,50000-50009")
		err = errors.Join(err, setList("443"), Reserve([]Range{{50000, 50009}}, dir))
		expectList(t, "others took ours out", "443,50000-50009")
		err = errors.Join(err, setList("25,50005"), Release(dir))
		expectList(t, "released", "25")
		return err
	})
}

// A crash ends Reserve after any of its three writes.
func TestReserveAfterACrash(t *testing.T) {
	const before, others = "22,50000-50999", "22"
	first, second := []Range{{50000, 50999}}, []Range{{50500, 51499}}
	union := portsOf(append(first, second...))
	crashes := []struct {
		name string
		run  func(m *memory) error
	}{
		{"before it remembers", func(*memory) error { return nil }},
		{"before it writes the list", func(m *memory) error { return m.remember(union) }},
		{"after it wrote the list", func(m *memory) error {
			return errors.Join(m.remember(union), setList("22,50500-51499"))
		}},
	}
	afterwards := []struct {
		name string
		run  func(dir string) error
		want string
	}{
		{"the same again", func(dir string) error { return Reserve(second, dir) }, "22,50500-51499"},
		{"the old ones", func(dir string) error { return Reserve(first, dir) }, before},
		{"others", func(dir string) error { return Reserve([]Range{{1, 1}}, dir) }, "1,22"},
		{"released", Release, others},
	}
	for _, crash := range crashes {
		for _, after := range afterwards {
			n, dir := newNode(t), t.TempDir()
			n.Do(t, func() error {
				err := errors.Join(setList(others), Reserve(first, dir))
				m, recallErr := recall(dir)
				err = errors.Join(err, recallErr, crash.run(m), after.run(dir))
				expectList(t, "crash "+crash.name+", then "+after.name, after.want)
				err = errors.Join(err, Release(dir))
				expectList(t, "crash "+crash.name+", then "+after.name+", then released", others)
				return err
			})
		}
	}
}

// A list that takes many pages is read and written whole.
func TestReserveLongList(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	var odd []string
	for port := 1; port < 1<<16; port += 2 {
		odd = append(odd, fmt.Sprint(port))
	}
	before := strings.Join(odd, ",")
	if len(before) > maxText {
		t.Fatalf("the longest list has %d bytes, maxText is %d", len(before), maxText)
	}
	n.Do(t, func() error {
		err := errors.Join(setList(before), Reserve([]Range{{1000, 1998}}, dir))
		got, listErr := list()
		want := strings.Join(odd[:499], ",") + ",999-1999," + strings.Join(odd[1000:], ",")
		if got != want {
			t.Error("the long list is not what it was, and the range")
		}
		err = errors.Join(err, listErr, Release(dir))
		expectList(t, "released", before)
		return err
	})
}

func TestReserveRandomly(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	rnd := rand.New(rand.NewPCG(9, 10))
	n.Do(t, func() error {
		others := portsOf(someRanges(rnd, 9))
		err := setList(others.String())
		for i := range 100 {
			ranges := someRanges(rnd, 1+i%20)
			want := others.union(portsOf(ranges))
			err = errors.Join(err, Reserve(ranges, dir))
			expectList(t, fmt.Sprint(ranges), want.String())
		}
		err = errors.Join(err, Release(dir))
		expectList(t, "released", others.String())
		return err
	})
}

// What is remembered of another namespace or boot says nothing about this list.
func TestReserveKnowsWhoseListItRemembers(t *testing.T) {
	a, b, dir := newNode(t), newNode(t), t.TempDir()
	ranges := []Range{{50000, 50009}}
	a.Do(t, func() error { return Reserve(ranges, dir) })
	b.Do(t, func() error {
		err := errors.Join(setList("50000-50009"), Release(dir))
		expectList(t, "in another namespace", "50000-50009")
		return err
	})
	path := filepath.Join(dir, reservedFile)
	spoilt := map[string]func(s *reservedState) []byte{
		"another boot":    func(s *reservedState) []byte { s.BootID = "other"; return encode(t, s) },
		"an empty file":   func(*reservedState) []byte { return nil },
		"no ports":        func(s *reservedState) []byte { s.Ports = "x"; return encode(t, s) },
		"a cut-off state": func(s *reservedState) []byte { return encode(t, s)[:20] },
	}
	for name, spoil := range spoilt {
		a.Do(t, func() error {
			err := errors.Join(setList(""), Reserve(ranges, dir))
			data, readErr := os.ReadFile(path)
			var s reservedState
			err = errors.Join(err, readErr, json.Unmarshal(data, &s), os.WriteFile(path, spoil(&s), 0o640))
			err = errors.Join(err, Release(dir))
			expectList(t, name, "50000-50009")
			return err
		})
	}
}

func encode(t *testing.T, s *reservedState) []byte {
	t.Helper()
	data, err := json.Marshal(s)
	must(t, err)
	return data
}

func TestReserveSaysWhatFails(t *testing.T) {
	n := newNode(t)
	nowhere := filepath.Join(t.TempDir(), "none")
	n.Do(t, func() error {
		if err := Reserve([]Range{{1, 1}}, nowhere); err == nil {
			t.Error("reserved without a place to remember it")
		}
		expectList(t, "not remembered", "")
		return Release(nowhere)
	})
}

// 3000 of 5000 automatic ports are reserved: the other 2000 are given out, to
// the last, and none of ours.
func TestReservedPortsAreNotGivenOut(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	const first, last = 50000, 52999
	n.Do(t, func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("49000 53999"), 0),
			Reserve([]Range{{first, last}}, dir))
	})
	n.listener(t, tcp4, "127.0.0.1:80")
	ask := map[string]func(fd int) error{
		"connect": func(fd int) error { return unix.Connect(fd, sockaddr("127.0.0.1:80")) },
		"bind":    func(fd int) error { return unix.Bind(fd, sockaddr("127.0.0.1:0")) },
	}
	for how, kind := range map[string]kind{"connect": tcp4, "bind": udp4} {
		var given Ports
		for range 2000 {
			fd := n.socket(t, kind)
			must(t, ask[how](fd))
			port := localPort(t, fd)
			if port >= first && port <= last {
				t.Fatalf("%s gave out port %d, which is reserved", how, port)
			}
			given.Add(port)
		}
		if given.Count() != 2000 {
			t.Errorf("%s gave out %d ports, want all 2000", how, given.Count())
		}
		if err := ask[how](n.socket(t, kind)); err == nil {
			t.Errorf("%s gave out a port when only reserved ones were left", how)
		}
		n.boundTo(t, kind, first) // by its number it is to be had: that is why we watch
		n.Do(t, func() error { return Release(dir) })
		fd := n.socket(t, kind)
		must(t, ask[how](fd))
		if port := localPort(t, fd); port < first || port > last {
			t.Errorf("%s gave out port %d after the release, want a released one", how, port)
		}
		n.Do(t, func() error { return Reserve([]Range{{first, last}}, dir) })
	}
}

func FuzzReservedState(f *testing.F) {
	here := namespace{"boot", 7}
	f.Add([]byte(`{"bootID":"boot","netnsCookie":7,"ports":"1-5,9"}`))
	f.Add([]byte(`{"bootID":"boot","netnsCookie":8,"ports":"1-5,9"}`))
	f.Add([]byte(`{"ports":`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ours := decodeState(data, here)
		again, err := json.Marshal(reservedState{here, ours.String()})
		if err != nil {
			t.Fatal(err)
		}
		if decodeState(again, here) != ours {
			t.Errorf("%q is written as %q, which is read as another set", data, again)
		}
	})
}

package hostports

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// somePorts are n random ports and the outermost two.
func somePorts(rnd *rand.Rand, n int) []uint16 {
	var set Ports
	set.Add(1)
	set.Add(1<<16 - 1)
	for set.Count() < n+2 {
		set.Add(uint16(1 + rnd.IntN(1<<16-1)))
	}
	var ports []uint16
	for port := range 1 << 16 {
		if set.Has(uint16(port)) {
			ports = append(ports, uint16(port))
		}
	}
	return ports
}

// someRanges are n random ranges, which may overlap and together hold about
// half of the ports.
func someRanges(rnd *rand.Rand, n int) []Range {
	ranges := make([]Range, n)
	for i := range ranges {
		first := rnd.IntN(1 << 16)
		ranges[i] = Range{uint16(first), uint16(min(first+rnd.IntN(1<<16/n+1), 1<<16-1))}
	}
	return ranges
}

// slowHas is the obvious twin of the sets and the programs that are made of
// ranges.
func slowHas(ranges []Range, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.First <= port && port <= r.Last })
}

var rangeCounts = []int{1, 1, 1, 2, 2, 3, 5, 20, maxRanges, 300, 3000}

func TestKernelFiltersSocketsByPort(t *testing.T) {
	n := newNode(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []Socket
	for _, port := range somePorts(rnd, 400) {
		n.boundTo(t, udp4, port)
		must(t, unix.Listen(n.boundTo(t, tcp6, port), 1))
		all = append(all, tcp(0, port), udp(0, port))
	}
	n.expect(t, nil, slices.Clone(all)...)
	d, err := openDiag(n.handle)
	must(t, err)
	defer d.close()
	for _, count := range rangeCounts {
		ranges := someRanges(rnd, count)
		f := newFilter(ranges)
		if len(f.ranges) > maxRanges {
			t.Fatalf("%d ranges for the kernel, want at most %d", len(f.ranges), maxRanges)
		}
		var passed []Socket
		add := func(s Socket) { passed = append(passed, s) }
		must(t, d.dump(unix.AF_INET6, unix.IPPROTO_TCP, f.bytecode(), add))
		must(t, d.dump(unix.AF_INET, unix.IPPROTO_UDP, f.bytecode(), add))
		expectSame(t, passed, all, f.ranges)

		listed, err := List(n.ns(), ranges)
		must(t, err)
		expectSame(t, listed, all, ranges)
	}
	n.expect(t, []Range{{1, 1}}, tcp(0, 1), udp(0, 1))
	n.expect(t, []Range{{9, 8}}) // none
}

// expectSame wants got to be those of all whose port is in ranges.
func expectSame(t *testing.T, got, all []Socket, ranges []Range) {
	t.Helper()
	var want []Socket
	for _, s := range all {
		if slowHas(ranges, s.Port) {
			want = append(want, s)
		}
	}
	slices.SortFunc(got, compare)
	slices.SortFunc(want, compare)
	if !slices.Equal(got, want) {
		t.Errorf("%d ranges: got %d sockets %v\nwant %d: %v", len(ranges), len(got), got, len(want), want)
	}
}

func (n *node) boundTo(t testing.TB, k kind, port uint16) int {
	t.Helper()
	fd := n.socket(t, k)
	var a unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if k.family == unix.AF_INET6 {
		a = &unix.SockaddrInet6{Port: int(port)}
	}
	must(t, unix.Bind(fd, a))
	return fd
}

// The filter of notices runs on a socket pair, which drops what it refuses.
func TestKernelFiltersNoticesByPort(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { must(t, errors.Join(unix.Close(pair[0]), unix.Close(pair[1]))) }()
	for _, count := range rangeCounts {
		f := newFilter(someRanges(rnd, count))
		prog := f.socketFilter()
		must(t, unix.SetsockoptSockFprog(pair[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}))
		for _, port := range somePorts(rnd, 500) {
			notice := make([]byte, unix.SizeofNlMsghdr+msgSize)
			notice[portOffset], notice[portOffset+1] = byte(port>>8), byte(port)
			_, err := unix.Write(pair[0], notice)
			must(t, err)
			got, err := unix.Read(pair[1], notice)
			if err != nil && !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			if want := slowHas(f.ranges, port); (err == nil) != want {
				t.Fatalf("a notice of port %d: passed %v, want %v by %v", port, err == nil, want, f.ranges)
			}
			if err == nil && got != len(notice) {
				t.Fatalf("a notice of %d bytes is cut to %d", len(notice), got)
			}
		}
	}
}

package hostports

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The cost of a look at a node with 50 thousand sockets (the two ends of 9000
// connections to itself, the rest in TIME_WAIT), when all, few, or none of the
// ports matter.
func BenchmarkList(b *testing.B) {
	n := newNode(b)
	const connections, waiting = 9000, 32000
	n.Do(b, func() error {
		l := n.listener(b, tcp4, "127.0.0.1:80")
		for i := range connections {
			fd := n.bound(b, tcp4, fmt.Sprintf("127.0.0.1:%d", 10000+i))
			must(b, unix.Connect(fd, sockaddr("127.0.0.1:80")))
			accept(b, l)
		}
		must(b, os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("100000"), 0))
		for i := range waiting {
			fd := n.bound(b, tcp4, fmt.Sprintf("127.0.0.2:%d", 10000+i))
			must(b, unix.Connect(fd, sockaddr("127.0.0.1:80")))
			end := accept(b, l)
			must(b, unix.Close(fd))
			must(b, unix.Close(end))
		}
		return nil
	})
	for _, bm := range []struct {
		name   string
		ranges []Range
	}{
		{"all", nil},
		{"a-hundred", []Range{{14900, 14999}, {49152, 65535}}},
		{"none", []Range{{49152, 65535}}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			d, err := openDiag(n.handle)
			must(b, err)
			defer d.close()
			f := newFilter(bm.ranges)
			for b.Loop() {
				sockets, err := d.list(f)
				must(b, err)
				b.ReportMetric(float64(len(sockets)), "ports")
			}
		})
	}
}

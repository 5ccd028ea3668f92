package natconf

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ringway/lab"
	"ringway/packet"
	"ringway/packet/packettest"
)

// station is a host's device at packet level. What it sends leaves as it is, and
// it sees whatever arrives.
type station struct {
	name string
	addr uint32 // the host's own
	eth  packettest.Eth
	file *os.File

	mu   sync.Mutex
	got  []datagram
	done chan struct{}
}

// openStation opens a host's eth0 and keeps the host's own stack from answering,
// so that the probes are the only ones who do.
func openStation(l *lab.Lab, host string, gateway packet.MAC) (*station, error) {
	s := &station{name: host, done: make(chan struct{})}
	s.addr = packettest.Addr(l.Address(host).String())
	if err := nft(l, host, "table ip quiet { chain input { type filter hook input priority 0; policy drop; }; }\n"); err != nil {
		return nil, err
	}
	err := l.Do(host, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		s.eth.Dst = gateway
		copy(s.eth.Src[:], link.HardwareAddr)
		s.file, err = packetSocket(link.Index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open eth0 of %s: %w", host, err)
	}
	go s.record()
	return s, nil
}

// nft adds rules to a host's own rule set.
func nft(l *lab.Lab, host, rules string) error {
	cmd := l.Command(host, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft on %s: %w: %s", host, err, out)
	}
	return nil
}

func packetSocket(ifindex int) (*os.File, error) {
	const ethAll = 0x0300 // ETH_P_ALL in network byte order
	// Protocol 0 receives nothing before bind: no packet of another device.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ethAll, Ifindex: ifindex}),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "packets"), nil
}

func (s *station) record() {
	defer close(s.done)
	buf := make([]byte, 1<<16)
	for {
		n, err := s.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			continue // the device was down for a moment
		}
		if d, ok := parseFrame(append([]byte(nil), buf[:n]...)); ok {
			s.mu.Lock()
			s.got = append(s.got, d)
			s.mu.Unlock()
		}
	}
}

func (s *station) close() error {
	err := s.file.Close()
	<-s.done
	return err
}

// count is how many datagrams have arrived so far.
func (s *station) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// find gives the first datagram from number from on that matches. Fragments are
// put together before they are looked at.
func (s *station) find(from int, match func(*datagram) bool) *datagram {
	arrived := s.arrived(from)
	if slices.ContainsFunc(arrived, func(d datagram) bool { return d.isFragment() }) {
		arrived = joined(arrived)
	}
	for i := range arrived {
		if match(&arrived[i]) {
			return &arrived[i]
		}
	}
	return nil
}

// arrived gives every datagram from number from on, fragments as they came.
func (s *station) arrived(from int) []datagram {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[min(from, len(s.got)):]
}

// wait is find that waits.
func (s *station) wait(from int, patience time.Duration, match func(*datagram) bool) *datagram {
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Microsecond) {
		if d := s.find(from, match); d != nil || time.Now().After(deadline) {
			return d
		}
	}
}

// send sends one datagram.
func (s *station) send(ip packettest.IPv4, layers ...packettest.Layer) error {
	return s.write(packettest.Frame(append([]packettest.Layer{s.eth, ip}, layers...)...))
}

func (s *station) write(frame []byte) error {
	if _, err := s.file.Write(frame); err != nil {
		return &broken{fmt.Errorf("send from %s: %w", s.name, err)}
	}
	return nil
}

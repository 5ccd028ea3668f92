package hostports

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// message is a netlink message, padded as in a datagram.
func message(kind uint16, seq uint32, body []byte) []byte {
	length := unix.SizeofNlMsghdr + len(body)
	b := binary.NativeEndian.AppendUint32(nil, uint32(length))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0)
	b = append(b, body...)
	return append(b, make([]byte, align4(length)-length)...)
}

// socketBody is an inet_diag_msg.
func socketBody(addr string, port uint16, attributes ...byte) []byte {
	b := make([]byte, msgSize)
	a := netip.MustParseAddr(addr)
	b[atFamily] = unix.AF_INET
	if a.Is6() {
		b[atFamily] = unix.AF_INET6
	}
	binary.BigEndian.PutUint16(b[atPort:], port)
	copy(b[atAddr:], a.AsSlice())
	return append(b, attributes...)
}

// attribute is an nlattr with one byte, padded.
func attribute(kind uint16, value byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, attrHdrSize+1)
	return append(binary.NativeEndian.AppendUint16(b, kind), value, 0, 0, 0)
}

func errnoBody(errno unix.Errno) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
}

func TestParseSocket(t *testing.T) {
	const addr = 192<<24 | 2<<8 | 1
	shutdown := attribute(8, 0) // INET_DIAG_SHUTDOWN comes first
	strange := socketBody("192.0.2.1", 7)
	strange[atFamily] = unix.AF_UNIX
	tests := []struct {
		name  string
		body  []byte
		proto uint8
		want  Socket
		ok    bool
		fails bool
	}{
		{"IPv4", socketBody("192.0.2.1", 7), unix.IPPROTO_TCP, tcp(addr, 7), true, false},
		{"any IPv4", socketBody("0.0.0.0", 7, shutdown...), unix.IPPROTO_UDP, udp(0, 7), true, false},
		{"no port", socketBody("192.0.2.1", 0), unix.IPPROTO_TCP, Socket{}, false, false},
		{"IPv6", socketBody("2001:db8::1", 7), unix.IPPROTO_TCP, Socket{}, false, false},
		{"IPv6 like a mapped one", socketBody("::fffe:c000:201", 7), unix.IPPROTO_TCP, Socket{}, false, false},
		{"mapped", socketBody("::ffff:192.0.2.1", 7), unix.IPPROTO_TCP, tcp(addr, 7), true, false},
		{"mapped any", socketBody("::ffff:0.0.0.0", 7), unix.IPPROTO_TCP, tcp(0, 7), true, false},
		{"dual stack", socketBody("::", 7, append(shutdown, attribute(attrV6Only, 0)...)...), unix.IPPROTO_UDP, udp(0, 7), true, false},
		{"IPv6 only", socketBody("::", 7, append(shutdown, attribute(attrV6Only, 1)...)...), unix.IPPROTO_UDP, Socket{}, false, false},
		{"any, of which is not known whether IPv6 only", socketBody("::", 7), unix.IPPROTO_TCP, tcp(0, 7), true, false},
		{"a broken attribute", socketBody("::", 7, 255, 255, attrV6Only, 0, 1), unix.IPPROTO_TCP, tcp(0, 7), true, false},
		{"an attribute of no length", socketBody("::", 7, 0, 0, attrV6Only, 0, 1), unix.IPPROTO_TCP, tcp(0, 7), true, false},
		{"SCTP", socketBody("127.0.0.1", 7), unix.IPPROTO_SCTP, Socket{0, 7, unix.IPPROTO_SCTP}, true, false},
		{"SCTP over IPv6", socketBody("2001:db8::1", 7), unix.IPPROTO_SCTP, Socket{0, 7, unix.IPPROTO_SCTP}, true, false},
		{"cut off", socketBody("192.0.2.1", 7)[:msgSize-1], unix.IPPROTO_TCP, Socket{}, false, true},
		{"of another family", strange, unix.IPPROTO_TCP, Socket{}, false, true},
	}
	for _, test := range tests {
		got, ok, err := parseSocket(test.body, test.proto)
		if ok != test.ok || (err != nil) != test.fails || ok && got != test.want {
			t.Errorf("%s: %v, %v, %v", test.name, got, ok, err)
		}
	}
}

func TestEachReply(t *testing.T) {
	body := socketBody("192.0.2.1", 7)
	one := message(unix.SOCK_DIAG_BY_FAMILY, 5, body)
	stale := message(unix.SOCK_DIAG_BY_FAMILY, 4, body)
	end := message(unix.NLMSG_DONE, 5, errnoBody(0))
	tooLong := append([]byte(nil), one...)
	binary.NativeEndian.PutUint32(tooLong, uint32(len(one)+1))
	tooShort := append([]byte(nil), one...)
	binary.NativeEndian.PutUint32(tooShort, unix.SizeofNlMsghdr-1)
	tests := []struct {
		name  string
		parts [][]byte
		count int
		done  bool
		err   error // nil and fails: any
		fails bool
	}{
		{"nothing", nil, 0, false, nil, false},
		{"two, more to come", [][]byte{one, one}, 2, false, nil, false},
		{"the end", [][]byte{one, end}, 1, true, nil, false},
		{"an end without a code", [][]byte{message(unix.NLMSG_DONE, 5, nil)}, 0, true, nil, false},
		{"what comes after the end", [][]byte{end, one}, 0, true, nil, false},
		{"of another request", [][]byte{stale, message(unix.NLMSG_DONE, 4, nil), one}, 1, false, nil, false},
		{"an error", [][]byte{message(unix.NLMSG_ERROR, 5, errnoBody(unix.ENOENT))}, 0, true, unix.ENOENT, true},
		{"an error at the end", [][]byte{one, message(unix.NLMSG_DONE, 5, errnoBody(unix.EINVAL))}, 1, true, unix.EINVAL, true},
		{"of another type", [][]byte{message(unix.NLMSG_NOOP, 5, body), one}, 1, false, nil, false},
		{"a cut header", [][]byte{one, one[:15]}, 1, false, nil, true},
		{"longer than the datagram", [][]byte{tooLong}, 0, false, nil, true},
		{"shorter than its header", [][]byte{tooShort}, 0, false, nil, true},
	}
	for _, test := range tests {
		var datagram []byte
		for _, part := range test.parts {
			datagram = append(datagram, part...)
		}
		count := 0
		done, err := eachReply(datagram, 5, func([]byte) error { count++; return nil })
		if count != test.count || done != test.done || (err != nil) != test.fails || test.err != nil && !errors.Is(err, test.err) {
			t.Errorf("%s: %d sockets, done %v, %v", test.name, count, done, err)
		}
	}
	stop := errors.New("stop")
	if _, err := eachReply(one, 5, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the error of a reply came back as %v", err)
	}
}

func FuzzReply(f *testing.F) {
	f.Add(message(unix.SOCK_DIAG_BY_FAMILY, 1, socketBody("192.0.2.1", 7)), uint8(unix.IPPROTO_TCP))
	f.Add(message(unix.SOCK_DIAG_BY_FAMILY, 1, socketBody("::", 7, attribute(attrV6Only, 1)...)), uint8(unix.IPPROTO_UDP))
	f.Add(message(unix.NLMSG_ERROR, 1, errnoBody(unix.ENOENT)), uint8(unix.IPPROTO_SCTP))
	f.Fuzz(func(t *testing.T, datagram []byte, proto uint8) {
		count := 0
		_, err := eachReply(datagram, 1, func(body []byte) error {
			s, ok, err := parseSocket(body, proto)
			if ok {
				count++
			}
			if ok && (err != nil || s.Port == 0 || s.Proto != proto) {
				t.Errorf("socket %v of protocol %d, %v", s, proto, err)
			}
			return err
		})
		if room := len(datagram) / (unix.SizeofNlMsghdr + msgSize); count > room {
			t.Errorf("%d sockets in a datagram that has room for %d (%v)", count, room, err)
		}
	})
}

package hostports

import "golang.org/x/sys/unix"

// Busy says which ports are the host's on addr (host byte order): those of
// sockets bound to it or to every address. The latter count on an address that
// is there for SNAT alone, too: a listener on 0.0.0.0:22 answers on it.
func Busy(sockets []Socket, addr uint32) (tcp, udp, sctp Ports) {
	for _, s := range sockets {
		if s.Addr != 0 && s.Addr != addr {
			continue
		}
		switch s.Proto {
		case unix.IPPROTO_TCP:
			tcp.Add(s.Port)
		case unix.IPPROTO_UDP:
			udp.Add(s.Port)
		case unix.IPPROTO_SCTP:
			sctp.Add(s.Port)
		}
	}
	return tcp, udp, sctp
}

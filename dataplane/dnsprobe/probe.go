package dnsprobe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// name is one that caching servers answer by themselves (RFC 6761 6.3, item 4).
const name = "localhost."

// ednsVersion is none that there is. A server that knows EDNS answers BADVERS at once
// (RFC 6891 6.1.3), whatever it was asked. CoreDNS needs that: it would forward
// localhost, and even the names of class CH, and a cache whose upstream is dead would
// seem to be dead itself.
const ednsVersion = 1

// answerBytes is more than any answer to the question has.
const answerBytes = 4096

func question() *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().SetVersion(ednsVersion)
	return m
}

// probe asks a server from a new socket, so that the port is another one each time,
// and waits for any answer to that: REFUSED shows a server that is alive as well as
// an address does. An ICMP error ends the wait.
func probe(ctx context.Context, server netip.AddrPort, timeout time.Duration) error {
	m := question()
	query, err := m.Pack()
	if err != nil {
		return fmt.Errorf("pack a probe: %w", err)
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return fmt.Errorf("open a socket to %v: %w", server, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("set a probe's deadline: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(0, 1)) })()
	if _, err := conn.Write(query); err != nil {
		return fmt.Errorf("send a probe: %w", err)
	}
	return awaitAnswer(conn, m.Id)
}

// awaitAnswer passes over what is no answer to this ID.
func awaitAnswer(conn net.Conn, id uint16) error {
	buf := make([]byte, answerBytes)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("wait for an answer: %w", err)
		}
		var m dns.Msg
		if m.Unpack(buf[:n]) == nil && m.Id == id && m.Response {
			return nil
		}
	}
}

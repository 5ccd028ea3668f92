package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
)

// Question is one question to a DNS server.
type Question struct {
	Name  string // ends in a dot
	Type  uint16
	Class uint16 // 0: IN
	EDNS  uint16 // bytes of UDP payload that the asker takes; 0: 512, without EDNS
}

func (q Question) message(id uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Type)
	m.Id = id
	m.Question[0].Qclass = cmp.Or(q.Class, dns.ClassINET)
	if q.EDNS != 0 {
		m.SetEdns0(q.EDNS, false)
	}
	return m
}

func (q Question) String() string { return q.Name + " " + dns.TypeToString[q.Type] }

// Reply is what a server answered to a question.
type Reply struct {
	*dns.Msg
	Bytes   int
	Elapsed time.Duration
}

// Addresses are those in the answer.
func (r Reply) Addresses() []netip.Addr {
	var list []netip.Addr
	for _, rr := range r.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			list = append(list, a)
		}
	}
	return list
}

// ErrForeignAnswer says that something answered from another address, or port,
// than the one that was asked.
var ErrForeignAnswer = errors.New("an answer from another address")

// Resolver is a UDP socket on a host from which one server is asked, as a stub
// resolver does it. Unlike a connected one it takes answers from anywhere, and so
// sees those from a wrong address. It belongs to one goroutine.
type Resolver struct {
	conn   *net.UDPConn
	server netip.AddrPort
	next   uint16 // transaction id
}

// NewResolver opens a socket on a host. The caller closes it.
func (l *Lab) NewResolver(host string, server netip.AddrPort) (*Resolver, error) {
	conn, err := l.listenUDP(host, netip.IPv4Unspecified())
	if err != nil {
		return nil, err
	}
	return &Resolver{conn: conn, server: server}, nil
}

// Close closes the socket.
func (r *Resolver) Close() error { return r.conn.Close() }

// Local is the socket's port.
func (r *Resolver) Local() uint16 { return r.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// Ask sends questions, one right after the other, and waits for the answers to
// all of them, whose order is that of the questions. Nothing is sent twice.
func (r *Resolver) Ask(timeout time.Duration, questions ...Question) ([]Reply, error) {
	sent := map[uint16]int{}
	start := time.Now()
	for i, q := range questions {
		r.next++
		sent[r.next] = i
		data, err := q.message(r.next).Pack()
		if err != nil {
			return nil, fmt.Errorf("ask for %s: %w", q, err)
		}
		if _, err := r.conn.WriteToUDPAddrPort(data, r.server); err != nil {
			return nil, fmt.Errorf("ask %s for %s: %w", r.server, q, err)
		}
	}
	if err := r.conn.SetReadDeadline(start.Add(timeout)); err != nil {
		return nil, err
	}
	replies := make([]Reply, len(questions))
	for len(sent) > 0 {
		reply, err := r.receive(start)
		if err != nil {
			return nil, fmt.Errorf("ask %s for %v: %d of %d are not answered: %w", r.server, questions, len(sent), len(questions), err)
		}
		if i, ok := sent[reply.Id]; ok { // else it is late, of a question before
			replies[i] = reply
			delete(sent, reply.Id)
		}
	}
	return replies, nil
}

func (r *Resolver) receive(start time.Time) (Reply, error) {
	buf := make([]byte, 65536)
	n, from, err := r.conn.ReadFromUDPAddrPort(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Reply{}, ErrNoAnswer
	}
	if err != nil {
		return Reply{}, err
	}
	if from != r.server {
		return Reply{}, fmt.Errorf("%w: %s", ErrForeignAnswer, from)
	}
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		return Reply{}, fmt.Errorf("%d bytes: %w", n, err)
	}
	return Reply{Msg: m, Bytes: n, Elapsed: time.Since(start)}, nil
}

// Ask asks a server one question over UDP, from a socket of its own.
func (l *Lab) Ask(host string, server netip.AddrPort, timeout time.Duration, q Question) (Reply, error) {
	r, err := l.NewResolver(host, server)
	if err != nil {
		return Reply{}, err
	}
	defer r.Close()
	replies, err := r.Ask(timeout, q)
	if err != nil {
		return Reply{}, fmt.Errorf("%s: %w", host, err)
	}
	return replies[0], nil
}

// AskTCP asks a server questions over one TCP connection, one after the other.
func (l *Lab) AskTCP(ctx context.Context, host string, server netip.AddrPort, questions ...Question) ([]Reply, error) {
	conn, err := l.DialTCP(ctx, host, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer closeWith(ctx, conn)()
	c := &dns.Conn{Conn: conn}
	var replies []Reply
	for i, q := range questions {
		start := time.Now()
		if err := c.WriteMsg(q.message(uint16(i))); err != nil {
			return nil, fmt.Errorf("%s: ask %s for %s over TCP: %w", host, server, q, err)
		}
		m, err := c.ReadMsg()
		if err != nil {
			return nil, fmt.Errorf("%s: ask %s for %s over TCP: %w", host, server, q, err)
		}
		replies = append(replies, Reply{Msg: m, Bytes: m.Len(), Elapsed: time.Since(start)})
	}
	return replies, nil
}

package store

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy stands between a store and etcd. It can cut their connections, and swallow
// what etcd answers.
type proxy struct {
	url string
	to  string

	mu        sync.Mutex
	listener  net.Listener
	conns     map[net.Conn]bool
	cut       bool
	swallow   bool
	swallowed chan struct{} // closed when the first answer is swallowed
	running   sync.WaitGroup
}

func startProxy(t *testing.T, endpoint string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		url: "http://" + listener.Addr().String(), to: strings.TrimPrefix(endpoint, "http://"),
		listener: listener, conns: map[net.Conn]bool{},
	}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil || !p.add(in, out) {
			in.Close()
			if out != nil {
				out.Close()
			}
			continue
		}
		p.running.Go(func() { p.pass(out, in, false) })
		p.running.Go(func() { p.pass(in, out, true) })
	}
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.cut
}

// pass copies until one of the connections ends, and ends both.
func (p *proxy) pass(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if answers && p.swallows() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) swallows() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.swallow && p.swallowed != nil {
		close(p.swallowed)
		p.swallowed = nil
	}
	return p.swallow
}

// Cut ends all connections and takes no more.
func (p *proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// Heal is the end of Cut and Swallow.
func (p *proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.swallow = false, false
}

// Swallow lets requests through and no answers. The channel is closed at the first
// answer that is lost.
func (p *proxy) Swallow() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow, p.swallowed = true, make(chan struct{})
	return p.swallowed
}

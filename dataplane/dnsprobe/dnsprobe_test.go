package dnsprobe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// forever is a timeout that no test sees the end of: what ends before has ended for
// another reason.
const forever = time.Hour

// serve has a DNS server on loopback for the test's time.
func serve(t *testing.T, answer dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan struct{}), make(chan error, 1)
	s := &dns.Server{PacketConn: conn, Handler: answer, NotifyStartedFunc: func() { close(started) }}
	go func() { ended <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := errors.Join(s.Shutdown(), <-ended); err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// closed is a port of loopback that nobody has.
func closed(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func silent(dns.ResponseWriter, *dns.Msg) {}

func rcode(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, code)) }
}

// write sends bytes that are no answer as the library makes it.
func write(of func(q *dns.Msg) []byte) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) { _, _ = w.Write(of(q)) }
}

func packed(m *dns.Msg) []byte {
	b, _ := m.Pack()
	return b
}

func TestAnyAnswerIsAnAnswer(t *testing.T) {
	for name, h := range map[string]dns.HandlerFunc{
		"NOERROR":  rcode(dns.RcodeSuccess),
		"NXDOMAIN": rcode(dns.RcodeNameError),
		"SERVFAIL": rcode(dns.RcodeServerFailure),
		"REFUSED":  rcode(dns.RcodeRefused),
		"BADVERS": func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.SetEdns0(1232, false)
			m.IsEdns0().SetExtendedRcode(dns.RcodeBadVers)
			_ = w.WriteMsg(m)
		},
		"no more than a header": write(func(q *dns.Msg) []byte {
			return packed(&dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Rcode: dns.RcodeNotImplemented}})
		}),
		"after other things": func(w dns.ResponseWriter, q *dns.Msg) {
			write(func(q *dns.Msg) []byte { return nil })(w, q)
			write(func(q *dns.Msg) []byte { return []byte("good morning") })(w, q)
			write(packed)(w, q)
			other := q.Copy()
			other.Id++
			rcode(dns.RcodeSuccess)(w, other)
			rcode(dns.RcodeSuccess)(w, q)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := probe(t.Context(), serve(t, h), forever); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNoAnswer(t *testing.T) {
	for name, h := range map[string]dns.HandlerFunc{
		"silent": silent,
		"another ID": func(w dns.ResponseWriter, q *dns.Msg) {
			q.Id++
			rcode(dns.RcodeSuccess)(w, q)
		},
		"the query itself": write(packed),
		"garbage":          write(func(*dns.Msg) []byte { return []byte("good morning") }),
		"cut off": write(func(q *dns.Msg) []byte {
			b := packed(new(dns.Msg).SetReply(q))
			return b[:len(b)-1]
		}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := probe(t.Context(), serve(t, h), 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v, want a deadline", err)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		if err := probe(t.Context(), closed(t), forever); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v, want a refused connection", err)
		}
	})
	t.Run("no address", func(t *testing.T) {
		if err := probe(t.Context(), netip.AddrPort{}, forever); err == nil {
			t.Error("an answer from nowhere")
		}
	})
}

// TestEachProbeIsAnotherOne: by port or by ID, so that no answer is taken for that of
// a later probe. And each asks what a server answers by itself.
func TestEachProbeIsAnotherOne(t *testing.T) {
	type seen struct {
		port string
		id   uint16
	}
	queries := make(chan seen, 100)
	server := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if o := q.IsEdns0(); o == nil || o.Version() != 1 || len(q.Question) != 1 || q.Question[0].Name != "localhost." {
			t.Errorf("%v", q)
		}
		queries <- seen{w.RemoteAddr().String(), q.Id}
		rcode(dns.RcodeRefused)(w, q)
	})
	ids := map[uint16]bool{}
	all := map[seen]bool{}
	for range cap(queries) {
		if err := probe(t.Context(), server, forever); err != nil {
			t.Fatal(err)
		}
		q := <-queries
		ids[q.id], all[q] = true, true
	}
	if len(ids) < 90 || len(all) < 99 {
		t.Errorf("%d IDs, %d sockets and IDs", len(ids), len(all))
	}
}

// counter is a target that counts.
type counter struct{ ok, failed atomic.Int64 }

func (c *counter) target(addr netip.AddrPort) Target {
	return Target{Addr: addr, OK: func() { c.ok.Add(1) }, Failed: func() { c.failed.Add(1) }}
}

// TestRounds: targets are read anew in each round, and each of them is probed in it.
func TestRounds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var alive, dead, late counter
	a, b := serve(t, rcode(dns.RcodeNameError)), closed(t)
	round := 0
	done := Start(ctx, Options{Interval: time.Millisecond, Timeout: forever}, func() []Target {
		round++
		switch round {
		case 1, 2, 3:
			return []Target{alive.target(a), dead.target(b)}
		case 4:
			return nil
		case 5, 6:
			return []Target{late.target(a)}
		}
		cancel()
		return nil
	})
	<-done
	got := [][2]int64{}
	for _, c := range []*counter{&alive, &dead, &late} {
		got = append(got, [2]int64{c.ok.Load(), c.failed.Load()})
	}
	if want := [][2]int64{{3, 0}, {0, 3}, {2, 0}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestEndsInTheMiddle of a round in which nobody answers: nothing is said of servers
// that had no time to answer.
func TestEndsInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan struct{}, 200)
	server := serve(t, func(dns.ResponseWriter, *dns.Msg) { asked <- struct{}{} })
	var c counter
	done := Start(ctx, Options{Timeout: forever}, func() []Target {
		return slices.Repeat([]Target{c.target(server)}, 100)
	})
	for range concurrent {
		<-asked
	}
	// Whatever time passes, no more are on their way at once.
	time.Sleep(20 * time.Millisecond)
	if n := len(asked); n != 0 {
		t.Errorf("%d more than %d at once", n, concurrent)
	}
	cancel()
	<-done
	if c.ok.Load()+c.failed.Load() != 0 {
		t.Errorf("%d answered, %d failed", c.ok.Load(), c.failed.Load())
	}
}

// TestComesBack: a server that dies and comes back on the same port.
func TestComesBack(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var up atomic.Bool
	server := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if up.Load() {
			rcode(dns.RcodeServerFailure)(w, q)
		}
	})
	results := make(chan bool)
	tell := func(ok bool) func() {
		return func() {
			select {
			case results <- ok:
			case <-ctx.Done():
			}
		}
	}
	done := Start(ctx, Options{Interval: time.Millisecond, Timeout: 50 * time.Millisecond}, func() []Target {
		return []Target{{Addr: server, OK: tell(true), Failed: tell(false)}}
	})
	for _, want := range []bool{false, true, false} {
		up.Store(want)
		for <-results != want {
		}
	}
	cancel()
	<-done
}

func TestDefaults(t *testing.T) {
	var o Options
	o.setDefaults()
	if o.Interval != time.Second || o.Timeout != 500*time.Millisecond || o.Log == nil {
		t.Errorf("%+v", o)
	}
	for range 1000 {
		if d := jittered(time.Second); d < 900*time.Millisecond || d > 1100*time.Millisecond {
			t.Fatalf("%v", d)
		}
	}
	if d := jittered(1); d != 1 {
		t.Errorf("%v", d)
	}
}

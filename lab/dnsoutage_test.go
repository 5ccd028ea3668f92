package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"ringway/control/ringwayv1"
)

// slowQuery is one that waited for a backend which did not answer: many times what
// a query takes, and half of the deadline.
const slowQuery = 100 * time.Millisecond

// waitHealth waits until a cache has a health, by what node1 knows of it.
func waitHealth(t *testing.T, l *Lab, address netip.Addr, health string) {
	t.Helper()
	must(t, l.WaitRedirect(testContext(t, 15*time.Second), cacheNode, func(r *ringwayv1.RedirectStatus) bool {
		return slices.ContainsFunc(r.GetBackends(), func(b *ringwayv1.BackendStatus) bool {
			return b.GetAddress() == address.String() && b.GetHealth() == health
		})
	}))
}

// outage is one time that the cache was away.
type outage struct {
	what       string
	start, end time.Time     // from the signal until it was started again
	back       time.Duration // from then until queries go there again
}

// slow is from the start of the outage until the last query that waited was sent,
// and how long the slowest one took.
func (o outage) slow(all []Query) (until, longest time.Duration) {
	for _, q := range all {
		if q.Sent.Before(o.start.Add(-slowQuery)) || q.Sent.After(o.end) {
			continue
		}
		longest = max(longest, q.Elapsed)
		if q.Elapsed > slowQuery {
			until = q.Sent.Sub(o.start)
		}
	}
	return until, longest
}

// away has the cache go away, waits until node1 has noticed, and has it come back.
func away(t *testing.T, l *Lab, cache netip.Addr, what string, leave, comeBack func() error) outage {
	t.Helper()
	o := outage{what: what, start: time.Now()}
	must(t, leave())
	waitHealth(t, l, cache, "quarantined")
	time.Sleep(300 * time.Millisecond) // the service answers
	o.end = time.Now()
	must(t, comeBack())
	waitHealth(t, l, cache, "healthy")
	o.back = time.Since(o.end)
	time.Sleep(200 * time.Millisecond)
	return o
}

// signalDNSServer sends a signal to the DNS server of a host.
func (l *Lab) signalDNSServer(host string, signal unix.Signal) error {
	pid, err := l.dnsServer(host).pid()
	if err != nil {
		return err
	}
	return unix.Kill(pid, signal)
}

// TestCacheGoesAway kills the cache five times under a thousand queries a second,
// restarts it, and freezes it so that not even an error comes back: every query is
// answered, once, from the service's address, and no ICMP error reaches the client.
func TestCacheGoesAway(t *testing.T) {
	l := dnsLab(t, Options{})
	must(t, l.StartHostCache())
	for _, c := range []struct{ form, host string }{{PodRedirect, cachePod}, {HostRedirect, cacheNode}} {
		t.Run(c.form, func(t *testing.T) {
			redirectDNS(t, l, c.form)
			cacheGoesAway(t, l, c.host)
		})
	}
}

func cacheGoesAway(t *testing.T, l *Lab, host string) {
	kills := 5
	if testing.Short() {
		kills = 1
	}
	cache := l.dnsListener(host).Addr()
	start := func() error { return l.StartDNSServer(host) }
	before, err := l.Counters("pod1")
	must(t, err)
	q := startQueries(t, l, KubeDNS, 1000)
	time.Sleep(200 * time.Millisecond)
	var all []outage
	for range kills {
		all = append(all, away(t, l, cache, "kill -9", func() error { return l.KillDNSServer(host) }, start))
	}
	all = append(all,
		away(t, l, cache, "restart", func() error { return l.StopDNSServer(host) }, start),
		away(t, l, cache, "freeze", func() error { return l.signalDNSServer(host, unix.SIGSTOP) },
			func() error { return l.signalDNSServer(host, unix.SIGCONT) }))
	r := endQueries(t, q, "all")
	for _, o := range all {
		until, longest := o.slow(r.Queries)
		t.Logf("%-8s queries waited until %s after it, %s at most; back %s after the start", o.what,
			until.Round(time.Millisecond), longest.Round(time.Millisecond), o.back.Round(time.Millisecond))
	}
	after, err := l.Counters("pod1")
	must(t, err)
	if n := after["IcmpInDestUnreachs"] - before["IcmpInDestUnreachs"]; n != 0 {
		t.Errorf("pod1 got %d ICMP errors", n)
	}
	checkHealthy(t, l)
}

// TestCacheIsReplaced has the pod of the cache replaced by another one with another
// address, as a rollout does it, in either order: new one first, or old one first.
// Open TCP connections to the old one end, those that begin get the other one, or
// the service.
func TestCacheIsReplaced(t *testing.T) {
	l := dnsLab(t, Options{})
	redirectDNS(t, l, PodRedirect)
	q := startQueries(t, l, KubeDNS, 1000)
	time.Sleep(200 * time.Millisecond)
	open := openTCP(t, l)
	second := netip.MustParseAddr("10.200.0.71")
	must(t, l.addCache("cache2", second))
	waitHealth(t, l, second, "healthy")
	must(t, l.DelPod(cachePod))
	checkReset(t, open)
	checkTCP(t, l)
	time.Sleep(300 * time.Millisecond)
	open = openTCP(t, l)
	must(t, l.DelPod("cache2"))
	checkReset(t, open)
	checkTCP(t, l)
	time.Sleep(300 * time.Millisecond)
	must(t, l.addCache(cachePod, cacheAddress))
	waitHealth(t, l, cacheAddress, "healthy")
	checkTCP(t, l)
	time.Sleep(300 * time.Millisecond)
	endQueries(t, q, "two replacements")
	checkHealthy(t, l)
}

// addCache adds a pod with a cache to node1.
func (l *Lab) addCache(name string, address netip.Addr) error {
	if err := l.addDNSPod(name, cacheNode, address, "node-local-dns"); err != nil {
		return err
	}
	if err := l.writeCache(name, "0.0.0.0", kubeDNSUpstream); err != nil {
		return err
	}
	return l.StartDNSServer(name)
}

// openTCP opens a connection to the service, and asks something by it.
func openTCP(t *testing.T, l *Lab) *dns.Conn {
	t.Helper()
	conn, err := l.DialTCP(testContext(t, queryPatience), "pod1", KubeDNS.String())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	c := &dns.Conn{Conn: conn}
	if err := exchange(c); err != nil {
		t.Fatal(err)
	}
	return c
}

func exchange(c *dns.Conn) error {
	if err := c.SetDeadline(time.Now().Add(queryPatience)); err != nil {
		return err
	}
	if err := c.WriteMsg(Question{Name: clusterName, Type: dns.TypeA}.message(1)); err != nil {
		return err
	}
	_, err := c.ReadMsg()
	return err
}

// checkReset wants the next question to fail at once: a client that waits for a
// backend which is gone would wait for minutes.
func checkReset(t *testing.T, c *dns.Conn) {
	t.Helper()
	start := time.Now()
	err := exchange(c)
	t.Logf("a connection to the pod that is gone: %v, after %s", err, time.Since(start).Round(time.Microsecond))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to a pod that is gone: %v", err)
	}
}

func checkTCP(t *testing.T, l *Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), queryPatience)
	defer cancel()
	if _, err := l.AskTCP(ctx, "pod1", KubeDNS, Question{Name: clusterName, Type: dns.TypeA}); err != nil {
		t.Error(err)
	}
}

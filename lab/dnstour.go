package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"ringway/control/ringwayv1"
)

// dnsSteps replay the last part of the original document, and answer the question
// that it leaves open.
var dnsSteps = []step{
	{"dns: google.com from pod1, by kube-dns and through the search list", (*tour).byKubeDNS},
	{"dns: the redirect to node-local-dns, with resolv.conf as it was", (*tour).byCache},
	{"dns: why node-local-dns asks the server outside itself, and not kube-dns", (*tour).whyOutside},
	{"dns: the cache is killed under 500 queries a second", (*tour).cacheKilled},
	{"dns: the cache as a process of the node, at 169.254.20.10", (*tour).byHostCache},
}

// searched are the names that a pod's search list makes of google.com, in the order
// in which they are asked for: it has fewer dots than ndots.
var searched = []string{
	"google.com.kube-system.svc.cluster.local.", "google.com.svc.cluster.local.", "google.com.cluster.local.", "google.com.",
}

// dnsWatch looks at what passes the devices of pod1 and of both servers.
type dnsWatch struct {
	captures map[string]*Capture
}

func (t *tour) watchDNS() (*dnsWatch, error) {
	w := &dnsWatch{captures: map[string]*Capture{}}
	for _, host := range []string{"pod1", kubeDNSPod, cachePod} {
		c, err := t.Lab.Capture(host, "eth0")
		if err != nil {
			return nil, errors.Join(err, w.stop())
		}
		w.captures[host] = c
	}
	return w, nil
}

func (w *dnsWatch) stop() error {
	var errs []error
	for _, c := range w.captures {
		_, err := c.Stop()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// messages are those that passed a host's device, but for what the loop plugins ask
// when they start.
func (w *dnsWatch) messages(host string, want func(*WireDNS) bool) []*WireDNS {
	var list []*WireDNS
	for _, p := range w.captures[host].Packets() {
		if d := p.DNS(); d != nil && d.Question[0].Qtype != dns.TypeHINFO && want(d) {
			list = append(list, d)
		}
	}
	return list
}

// answers waits for as many answers at pod1 as the search list makes questions, and
// returns them.
func (t *tour) answers(w *dnsWatch) ([]*WireDNS, error) {
	_, err := w.captures["pod1"].Wait(time.Second, func(p WirePacket) bool {
		d := p.DNS()
		return d != nil && d.Response && d.Question[0].Name == searched[len(searched)-1]
	})
	if err != nil {
		return nil, fmt.Errorf("at pod1: %w", err)
	}
	return w.messages("pod1", func(d *WireDNS) bool { return d.Response }), nil
}

// asked are the queries of pod1 that reached a host.
func (t *tour) asked(w *dnsWatch, host string) []*WireDNS {
	return w.messages(host, func(d *WireDNS) bool { return !d.Response && d.From.Addr() == t.Address("pod1") })
}

func names(messages []*WireDNS) []string {
	var list []string
	for _, d := range messages {
		list = append(list, d.Question[0].Name)
	}
	return list
}

// resolve has the C library of pod1 resolve google.com, and wants all of the search
// list to be answered from the address that resolv.conf names.
func (t *tour) resolve(w *dnsWatch) error {
	out, err := t.Inside("pod1", "getent", "ahosts", "google.com").Output()
	if err != nil {
		return fmt.Errorf("getent in pod1: %w", err)
	}
	address, _, _ := strings.Cut(string(out), " ")
	t.note("tried    getent ahosts google.com in pod1: %s", address)
	answers, err := t.answers(w)
	if err != nil {
		return err
	}
	for _, d := range answers {
		t.note("wire     pod1 eth0: %s", d)
		if d.From != KubeDNS {
			return fmt.Errorf("an answer from %s, which pod1 has not asked", d.From)
		}
	}
	if !slices.Equal(names(answers), searched) {
		return fmt.Errorf("pod1 has answers for %v, want %v", names(answers), searched)
	}
	return nil
}

// byKubeDNS: how it is without a redirect.
func (t *tour) byKubeDNS() error {
	if err := t.setRedirect(""); err != nil {
		return err
	}
	if err := t.noteResolvConf("pod1"); err != nil {
		return err
	}
	t.note("note     the kubernetes block of kube-dns' Corefile is answered from a file of Service objects: there is no API server here")
	w, err := t.watchDNS()
	if err != nil {
		return err
	}
	return errors.Join(t.resolve(w), t.reached(w, kubeDNSPod, cachePod), w.stop())
}

// reached: one host got the queries of pod1, and the other none.
func (t *tour) reached(w *dnsWatch, one, other string) error {
	got := t.asked(w, one)
	for _, d := range got {
		t.note("wire     %s eth0: %s", one, d)
	}
	if !slices.Equal(names(got), searched) {
		return fmt.Errorf("%s got %v of pod1, want %v", one, names(got), searched)
	}
	if more := t.asked(w, other); len(more) > 0 {
		return fmt.Errorf("%s got %d queries of pod1, the first %s", other, len(more), more[0])
	}
	t.note("wire     %s eth0: nothing of pod1", other)
	return nil
}

func (t *tour) noteResolvConf(host string) error {
	out, err := t.Inside(host, "cat", etcResolvConf).Output()
	if err != nil {
		return fmt.Errorf("read resolv.conf of %s: %w", host, err)
	}
	t.note("saw      %s in %s: %s", etcResolvConf, host, strings.Join(strings.Split(strings.TrimSpace(string(out)), "\n"), "; "))
	return nil
}

func (t *tour) setRedirect(form string) error {
	ctx, cancel := context.WithTimeout(t.ctx, callPatience)
	defer cancel()
	return t.RedirectDNS(ctx, form)
}

// byCache: the policy of the original document, and nothing else is changed.
func (t *tour) byCache() error {
	if err := t.setRedirect(PodRedirect); err != nil {
		return err
	}
	t.note("changed  node1 follows %s: what goes to kube-system/kube-dns, 53 UDP and TCP, goes to its pods with k8s-app: node-local-dns", PodRedirect)
	if err := t.noteResolvConf("pod1"); err != nil {
		return err
	}
	w, err := t.watchDNS()
	if err != nil {
		return err
	}
	return errors.Join(t.resolve(w), t.reached(w, cachePod, kubeDNSPod), w.stop(),
		t.show(redirectName, "get", "redirects"))
}

// whyOutside is the question that the author of the original document ends with:
// for a name outside the tcpdump shows node-local-dns ask the server outside itself,
// where theory says that kube-dns would.
func (t *tour) whyOutside() error {
	if err := t.setRedirect(PodRedirect); err != nil {
		return err
	}
	if err := errors.Join(t.KillDNSServer(cachePod), t.StartDNSServer(cachePod), t.cacheIs("healthy")); err != nil {
		return err
	}
	t.note("changed  %s is started anew, and knows nothing", cachePod)
	uplink, err := t.Lab.Capture(tap(cacheNode, "eth0"))
	if err != nil {
		return err
	}
	defer uplink.Stop()
	w, err := t.watchDNS()
	if err != nil {
		return err
	}
	return errors.Join(t.resolve(w), t.cacheAsked(w), t.outsideAsked(uplink), w.stop(), t.because())
}

// cacheIs waits until the cache has a health.
func (t *tour) cacheIs(health string) error {
	ctx, cancel := context.WithTimeout(t.ctx, callPatience)
	defer cancel()
	return t.WaitRedirect(ctx, cacheNode, func(r *ringwayv1.RedirectStatus) bool {
		return len(r.GetBackends()) == 1 && r.GetBackends()[0].GetHealth() == health
	})
}

// cacheAsked: names of the cluster by TCP and at kube-dns, everything else by UDP
// and outside.
func (t *tour) cacheAsked(w *dnsWatch) error {
	sent := w.messages(cachePod, func(d *WireDNS) bool { return !d.Response && d.From.Addr() == t.Address(cachePod) })
	for _, d := range sent {
		t.note("wire     %s eth0: %s", cachePod, d)
		inCluster := strings.HasSuffix(d.Question[0].Name, ".cluster.local.")
		if inCluster != (d.To.Addr() == kubeDNSUpstream && d.TCP) || !inCluster != (d.To.Addr() == resolverAddress() && !d.TCP) {
			return fmt.Errorf("%s went to %s", d.Question[0].Name, d.To)
		}
	}
	if !slices.Equal(names(sent), searched) {
		return fmt.Errorf("the cache asked for %v, want %v", names(sent), searched)
	}
	return nil
}

// outsideAsked: on the wire the cache has the address of its node.
func (t *tour) outsideAsked(uplink *Capture) error {
	p, err := uplink.Wait(time.Second, func(p WirePacket) bool {
		d := p.DNS()
		return d != nil && !d.Response && d.To.Addr() == resolverAddress() && d.Question[0].Name == "google.com."
	})
	if err != nil {
		return fmt.Errorf("on the wire of %s: %w", cacheNode, err)
	}
	t.note("wire     %s eth0: %s", cacheNode, p.DNS())
	return nil
}

// because reads the answer to the question where it is written.
func (t *tour) because() error {
	corefile, err := os.ReadFile(t.dnsServer(cachePod).config)
	if err != nil {
		return err
	}
	_, block, _ := strings.Cut(string(corefile), "\n.:53 {")
	for line := range strings.Lines(block) {
		if strings.Contains(line, "forward") {
			t.note("because  the .:53 block of its Corefile says: %s", strings.TrimSpace(line))
		}
	}
	if err := t.noteResolvConf(cachePod); err != nil {
		return err
	}
	t.note("because  node-cache writes /etc/resolv.conf there where no upstream servers are configured, and the DaemonSet has dnsPolicy: Default, the node's own. Nothing was set wrong")
	return nil
}

// cacheKilled: what the cache does not answer, kube-dns does.
func (t *tour) cacheKilled() error {
	if err := t.setRedirect(PodRedirect); err != nil {
		return err
	}
	q, err := t.StartQueries(QueryLoad{
		Host: "pod1", Server: KubeDNS, PerSecond: 500, Sockets: 16,
		Questions: []Question{{Name: "google.com.", Type: dns.TypeA}, {Name: "google.com.", Type: dns.TypeAAAA}},
	})
	if err != nil {
		return err
	}
	err = t.killCache()
	r, stopped := q.Stop()
	if err := errors.Join(err, stopped); err != nil {
		return err
	}
	t.note("saw      %s", r)
	if r.Lost != 0 || r.Duplicates != 0 || r.Foreign != 0 {
		return errors.New("not every query was answered, once, by the address that was asked")
	}
	return t.show(redirectName, "get", "redirects")
}

func (t *tour) killCache() error {
	time.Sleep(200 * time.Millisecond)
	start := time.Now()
	if err := t.KillDNSServer(cachePod); err != nil {
		return err
	}
	if err := t.cacheIs("quarantined"); err != nil {
		return err
	}
	t.note("changed  kill -9 of the cache; quarantined after %s", time.Since(start).Round(time.Millisecond))
	time.Sleep(300 * time.Millisecond)
	start = time.Now()
	if err := errors.Join(t.StartDNSServer(cachePod), t.cacheIs("healthy")); err != nil {
		return err
	}
	t.note("changed  the cache is started; healthy again after %s", time.Since(start).Round(time.Millisecond))
	time.Sleep(200 * time.Millisecond)
	return nil
}

// byHostCache: a cache that all pods of the node share without being one.
func (t *tour) byHostCache() error {
	if err := t.StartHostCache(); err != nil {
		return err
	}
	return errors.Join(t.throughHostCache(), t.setRedirect(""), t.StopHostCache())
}

func (t *tour) throughHostCache() error {
	if err := t.setRedirect(HostRedirect); err != nil {
		return err
	}
	t.note("changed  node1 follows %s: to a CoreDNS of node1 itself, at %s", HostRedirect, HostCache)
	w, err := t.watchDNS()
	if err != nil {
		return err
	}
	err = errors.Join(t.resolve(w), w.stop())
	for _, pod := range []string{cachePod, kubeDNSPod} {
		if got := t.asked(w, pod); len(got) > 0 {
			return errors.Join(err, fmt.Errorf("%s got %d queries of pod1, the first %s", pod, len(got), got[0]))
		}
		t.note("wire     %s eth0: nothing of pod1", pod)
	}
	return errors.Join(err, t.show(redirectName, "get", "redirects"))
}

package peer

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"ringway/bench/chain"
	"ringway/control"
	"ringway/control/ringwayv1"
	"ringway/internal/netnstest"
)

func dnsTraffic(flows int) chain.Traffic {
	return chain.Traffic{Row: chain.DNSRedirect, Size: chain.QuerySize, Flows: flows}
}

// redirects measures more ports, and queries with a UDP checksum to update.
func redirects(t *testing.T, dut chain.DUT) {
	t.Helper()
	carries(t, dut, dnsTraffic(chain.MaxAskers), chain.OneCore)
	traffic := dnsTraffic(100)
	traffic.Checksum = true
	carries(t, dut, traffic, chain.OneCore)
}

func TestKernelRedirects(t *testing.T) { redirects(t, NewKernel()) }

// What the client got is what the agent says that the cache answered. Each query has an
// answer: the load is none under which they get lost, and none has become a flow.
func TestRingwayRedirects(t *testing.T) {
	netnstest.Root(t)
	ringway := NewRingway(buildAgent(t))
	redirects(t, ringway)
	c := newChain(t, ringway, dnsTraffic(1000), chain.OneCore)
	if _, err := c.Measure(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	client, err := control.NewClient(ringway.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := onlyRedirect(t, client)
	q := r.GetQueries()
	if q.GetQueries() == 0 || q.GetCacheAnswers()+uint64(r.GetInFlight()) < q.GetQueries() || q.GetQuotaDrops()+q.GetServiceAnswers()+r.GetFlows() != 0 {
		t.Errorf("%v", r)
	}
}

func onlyRedirect(t *testing.T, client *control.Client) *ringwayv1.RedirectStatus {
	t.Helper()
	all, err := client.Redirects(t.Context())
	if err != nil || len(all.GetItems()) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	return all.GetItems()[0]
}

// ruled is a kernel with other rules.
type ruled struct {
	*Kernel
	rules string
}

func (r ruled) RedirectDNS(context.Context) error {
	return r.env.NS.Do(func() error { return nft(r.rules) })
}

// stateless changes queries, and answers too if there is a rule for them.
func stateless(answers string) ruled {
	rule := fmt.Sprintf("ip daddr %s udp dport 53 ip daddr set %s", chain.Service, chain.AddrCache)
	return ruled{NewKernel(), fmt.Sprintf(
		"table ip bench {\nchain prerouting {\ntype filter hook prerouting priority raw\n%s\n%s\n}\n}\n", rule, answers)}
}

func TestWrongRedirectsAreAnError(t *testing.T) {
	back := fmt.Sprintf("ip saddr %s udp sport 53 ip saddr set %s", chain.AddrCache, chain.Service)
	for _, c := range []struct {
		name           string
		dut            chain.DUT
		check, measure string // what the errors say; "": there is none
	}{
		{"there and back", stateless(back), "", ""},
		{"not translated back", stateless(""), "source address", "not as they should be"},
		{"back from elsewhere", stateless(strings.Replace(back, "set 10.96.0.10", "set 10.96.0.11", 1)), "source address", "not as they should be"},
		{"not redirected", ruled{NewKernel(), "table ip bench {}"}, "0 of 32 frames", "nothing arrived"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := newChain(t, c.dut, dnsTraffic(100), chain.OneCore)
			says(t, ch.Check(t.Context()), c.check)
			_, err := ch.Measure(t.Context(), 50*time.Millisecond)
			says(t, err, c.measure)
		})
	}
}

func says(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%v; want %q", err, want)
	}
}

func TestWhoHasNoPods(t *testing.T) {
	for _, name := range []string{LimitName, TestpmdName} {
		why := Unfit(name, dnsTraffic(1), chain.Layout{Name: chain.Split})
		if why != "in row dns-redirect: it has no pods" {
			t.Errorf("%s: %q", name, why)
		}
	}
	l, err := chain.NewLayout(chain.Split)
	if err != nil {
		t.Fatal(err)
	}
	netnstest.Root(t)
	c, err := chain.New(t.Context(), NewLimit(), dnsTraffic(1), l)
	if err == nil {
		t.Fatalf("a chain without pods was built: %v", c.Close())
	}
	says(t, err, "no pods can be attached to it")
}

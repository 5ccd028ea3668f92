package peer

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"ringway/bench/chain"
)

// ruleset masquerades what leaves by B. What comes in VXLAN is not tracked a
// second time for its outer headers, as some CNIs have it: the kernel's best.
const ruleset = `
table ip bench {
	chain prerouting {
		type filter hook prerouting priority raw
		%s
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr %s oifname %q masquerade
	}
}
`

// loadMasquerade has the kernel masquerade, with what makes a fair comparison.
func loadMasquerade(env chain.Env) error {
	outer := ""
	if env.Traffic.Row.FromTunnel() {
		outer = fmt.Sprintf("udp dport %d notrack", chain.VXLANPort)
	}
	rules := fmt.Sprintf(ruleset, outer, chain.FlowSources, env.B)
	if err := env.NS.Do(func() error { return nft(rules) }); err != nil {
		return err
	}
	return tuneConntrack(env)
}

// redirection takes queries for the service to the cache. Conntrack takes the answers
// back.
const redirection = `
table ip bench {
	chain prerouting {
		type nat hook prerouting priority dstnat
		ip daddr %s udp dport %d dnat to %s
	}
}
`

// loadRedirection has the kernel redirect DNS.
func loadRedirection(env chain.Env) error {
	rules := fmt.Sprintf(redirection, chain.Service, chain.DNSPort, chain.AddrCache)
	if err := env.NS.Do(func() error { return nft(rules) }); err != nil {
		return err
	}
	return tuneConntrack(env)
}

// tuneConntrack makes the comparison fair.
func tuneConntrack(env chain.Env) error {
	for _, s := range []struct{ name, value string }{
		// Ringway trusts L4 checksums, and keeps UDP flows for five minutes.
		{"netfilter/nf_conntrack_checksum", "0"},
		{"netfilter/nf_conntrack_udp_timeout", "300"},
		{"netfilter/nf_conntrack_udp_timeout_stream", "300"},
	} {
		if err := env.SetSysctl(s.name, s.value); err != nil {
			return err
		}
	}
	return nil
}

func nft(rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load rules with nft: %w: %s", err, out)
	}
	return nil
}

// flushConntrack empties the table of the calling thread's namespace and says how
// many flows it had.
func flushConntrack() (flows int, err error) {
	count, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		return 0, fmt.Errorf("count the flows of conntrack: %w", err)
	}
	if flows, err = strconv.Atoi(strings.TrimSpace(string(count))); err != nil {
		return 0, fmt.Errorf("count the flows of conntrack: %w", err)
	}
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return 0, fmt.Errorf("flush conntrack: %w", err)
	}
	return flows, nil
}

// unfitToTranslate says why the kernel of this machine cannot be measured with
// so many flows; "": it can.
func unfitToTranslate(flows int) string {
	if _, err := exec.LookPath("nft"); err != nil {
		return "nft is missing (on Debian: apt install nftables)"
	}
	// It is one number for all namespaces, and not ours to change. Before conntrack
	// is used there is none.
	limit, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil {
		return ""
	}
	return conntrackTooSmall(strings.TrimSpace(string(limit)), flows)
}

// conntrackTooSmall says what is wrong with a value of nf_conntrack_max.
func conntrackTooSmall(limit string, flows int) string {
	if n, err := strconv.Atoi(limit); err == nil && n >= 2*flows {
		return ""
	}
	return fmt.Sprintf("net.netfilter.nf_conntrack_max is %s: raise it to %d", limit, 2*flows)
}

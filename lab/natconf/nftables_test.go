package natconf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"ringway/lab"
)

// nftables is the plain Linux node with masquerade, as an operator would write it.
type nftables struct {
	*node
	found timeouts // at first
}

const nftablesHost = "node3"

func openNftables(l *lab.Lab, out *station) (*nftables, error) {
	gateway, err := deviceMAC(l, nftablesHost, "pod3")
	if err != nil {
		return nil, err
	}
	// Both pods send to the MAC of the first one's device: the kernel takes it
	// for another host's at the second, so that has its own.
	n, err := openNode(l, out, nftablesHost, [2]string{"pod3", "pod3b"}, gateway, "192.168.0.211", "192.168.0.212", "192.168.0.214")
	if err != nil {
		return nil, err
	}
	if n.b.eth.Dst, err = deviceMAC(l, nftablesHost, "pod3b"); err != nil {
		return nil, err
	}
	d := &nftables{node: n}
	if err := nft(l, nftablesHost, d.rules()); err != nil {
		return nil, err
	}
	d.found, err = d.readTimeouts()
	// The kernel's limit of errors is none of NAT's.
	return d, errors.Join(err, d.sysctl("ipv4/icmp_ratelimit", "0"))
}

// rules is the usual masquerade behind what makes the realms what they are.
func (d *nftables) rules() string {
	var b strings.Builder
	to := func(r realmName, format string, args ...any) {
		fmt.Fprintf(&b, "ip saddr 10.200.2.0/24 oifname eth0 ip daddr { %s, %s } %s\n", outside[r][0], outside[r][1], fmt.Sprintf(format, args...))
	}
	b.WriteString("table ip natconf {\n")
	b.WriteString("set exempt { type ipv4_addr; flags interval; }\n")
	b.WriteString("chain forward { type filter hook forward priority 0;\n")
	to(refused, "reject with icmp admin-prohibited")
	b.WriteString("}\nchain postrouting { type nat hook postrouting priority srcnat;\nip daddr @exempt return\n")
	for _, r := range []realmName{narrow, hundred, beside} {
		to(r, "meta l4proto { tcp, udp } masquerade to :%d-%d", ranges[r][0], ranges[r][1])
	}
	to(own, "snat to %s", address(d.realms[own].x[0]))
	to(pool, "snat to jhash ip saddr mod 2 map { 0: %s, 1: %s }", address(d.realms[pool].x[0]), address(d.realms[pool].x[1]))
	to(shuffled, "meta l4proto { tcp, udp } masquerade fully-random")
	b.WriteString("ip saddr 10.200.2.0/24 oifname eth0 masquerade\n}\n}\n")
	return b.String()
}

func (d *nftables) forget() error {
	return d.lab.Do(d.host, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}

func (d *nftables) timeouts() (timeouts, error) { return d.found, nil }

// readTimeouts reads sysctls, which a new namespace has at their defaults.
func (d *nftables) readTimeouts() (t timeouts, err error) {
	get := func(key string) time.Duration {
		v, e := d.readSysctl("netfilter/nf_conntrack_" + key)
		seconds, e2 := strconv.Atoi(strings.TrimSpace(v))
		err = errors.Join(err, e, e2)
		return time.Duration(seconds) * time.Second
	}
	t.udp = min(get("udp_timeout"), get("udp_timeout_stream"))
	t.icmp = get("icmp_timeout")
	t.tcpEstablished = get("tcp_timeout_established")
	t.tcpOpening = min(get("tcp_timeout_syn_sent"), get("tcp_timeout_syn_recv"))
	t.tcpClosing = min(get("tcp_timeout_fin_wait"), get("tcp_timeout_close_wait"), get("tcp_timeout_last_ack"))
	t.reset = get("tcp_timeout_close")
	t.openingAndClosingApart = true
	return t, err
}

func (d *nftables) sysctl(key, value string) error {
	return d.lab.Do(d.host, func() error { return os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0) })
}

func (d *nftables) readSysctl(key string) (value string, err error) {
	err = d.lab.Do(d.host, func() error {
		b, err := os.ReadFile(filepath.Join("/proc/sys/net", key))
		value = string(b)
		return err
	})
	return value, err
}

// shorten scales the timeouts that probes wait for. Whole seconds are the
// shortest that there are.
func (d *nftables) shorten() error {
	var errs []error
	for key, timeout := range map[string]time.Duration{
		"udp_timeout": short.udp, "udp_timeout_stream": short.udp, "icmp_timeout": short.icmp,
		"tcp_timeout_established": short.tcpEstablished, "tcp_timeout_syn_sent": short.tcpOpening,
		"tcp_timeout_syn_recv": short.tcpOpening, "tcp_timeout_fin_wait": short.tcpClosing,
		"tcp_timeout_close_wait": short.tcpClosing, "tcp_timeout_last_ack": short.tcpClosing,
		"tcp_timeout_time_wait": short.tcpClosing, "tcp_timeout_close": short.reset,
	} {
		errs = append(errs, d.sysctl("netfilter/nf_conntrack_"+key, strconv.Itoa(int(timeout.Seconds()))))
	}
	return errors.Join(errs...)
}

// limit has the node refuse more than that many flows of a pod.
func (d *nftables) limit(flows int) error {
	return nft(d.lab, d.host, fmt.Sprintf(`table ip limits {
		set pods { type ipv4_addr; size 1024; flags dynamic; }
		chain forward {
			type filter hook forward priority 0;
			ip saddr 10.200.2.0/24 oifname eth0 ct state new add @pods { ip saddr ct count over %d } reject with icmp admin-prohibited
		}
	}
	`, flows))
}

func (d *nftables) unlimit() error { return nft(d.lab, d.host, "delete table ip limits\n") }

func (d *nftables) exempt(p netip.Prefix) error {
	return nft(d.lab, d.host, fmt.Sprintf("add element ip natconf exempt { %s }", p))
}

// takesConflict: Linux takes any address.
func (d *nftables) takesConflict() (bool, error) {
	const inside = "10.200.2.99"
	if err := addAddress(d.lab, d.host, inside); err != nil {
		return false, nil
	}
	return true, removeAddress(d.lab, d.host, inside)
}

// refusals is what conntrack says in total of packets that it dropped.
func (d *nftables) refusals() (n uint64, err error) {
	err = d.lab.Do(d.host, func() error {
		stats, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
		if err != nil {
			return err
		}
		n = dropped(string(stats))
		return nil
	})
	return n, err
}

// dropped adds the columns insert_failed and drop of all CPUs up.
func dropped(stats string) (n uint64) {
	lines := strings.Split(strings.TrimSpace(stats), "\n")
	names := strings.Fields(lines[0])
	for _, line := range lines[1:] {
		for i, field := range strings.Fields(line) {
			if i < len(names) && (names[i] == "insert_failed" || names[i] == "drop") {
				v, _ := strconv.ParseUint(field, 16, 64)
				n += v
			}
		}
	}
	return n
}

// written: no rule logs anything.
func (d *nftables) written() (string, error) { return "", nil }

func (d *nftables) choose(o option) (func() error, error) {
	return nil, errNoOption
}

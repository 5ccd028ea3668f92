//go:build ignore

// The program of an uplink: takes exactly what is ours, passes everything else
// to the kernel, and never gives the kernel what is ours. With no socket to
// take a frame it is dropped: the kernel would answer with a reset or a port
// unreachable and so kill the very flows that a restarted agent takes over. Only
// of fragments to an SNAT address nobody knows whose they are: see take.
#include "ipv4.h"
#include "snat.h"
#include "uplink.h"

// Each word is written by one store of user space and read by one load, so a
// packet never sees half of an update.
struct settings {
	__u64 node;  // union node
	__u64 mac;   // union mac: the device's own address
};

union node {
	__u64 word;
	struct {
		__be32 vtep;  // 0: none yet
		__be16 vxlan_port;
		__u8 take_all;
		__u8 pad;
	};
};

union mac {
	__u64 word;
	__u8 addr[ETH_ALEN];  // the rest is 0
};

struct prefix {
	__u32 length;  // bits
	__be32 addr;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct prefix);
	__type(value, __u8);
} local_prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __be32);
	__type(value, __u8);
} host_addrs SEC(".maps");

// By receive queue; user space sets the size.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

static __always_inline int is_vxlan(const struct udphdr *udp, void *end, union node node)
{
	return (void *)(udp + 1) <= end && udp->dest == node.vxlan_port;
}

// The quoted datagram must be one that we sent as a VXLAN tunnel endpoint. Of
// its payload an error holds at least eight bytes (RFC 792): the UDP header.
static __always_inline int quotes_our_vxlan(const struct icmp *icmp, void *end, union node node)
{
	const struct iphdr *quoted = (void *)(icmp + 1);

	if ((void *)(quoted + 1) > end)
		return 0;
	if (!is_error(icmp->type))
		return 0;
	if (quoted->version != 4 || quoted->ihl < 5 || quoted->protocol != IPPROTO_UDP)
		return 0;
	if (quoted->saddr != node.vtep || is_later_fragment(quoted))
		return 0;
	return is_vxlan((void *)quoted + quoted->ihl * 4, end, node);
}

// What is ours by its transport header. Later fragments have none: they are
// ours only by their destination.
static __always_inline enum counter classify_tunnel(const struct iphdr *ip, void *end, union node node)
{
	const void *l4 = (const void *)ip + ip->ihl * 4;

	if (!node.vtep || ip->daddr != node.vtep || is_later_fragment(ip))
		return UNDECIDED;
	if (ip->protocol == IPPROTO_UDP && is_vxlan(l4, end, node))
		return VXLAN;
	if (ip->protocol == IPPROTO_ICMP && quotes_our_vxlan(l4, end, node))
		return ICMP_ERROR;
	return UNDECIDED;
}

static __always_inline int is_own_mac(const struct ethhdr *eth, __u64 own)
{
	union mac dst = { .word = 0 };

	__builtin_memcpy(dst.addr, eth->h_dest, ETH_ALEN);
	return dst.word == own;
}

// Multicast (RFC 5771) and the limited broadcast (RFC 919) are the kernel's.
static __always_inline int is_group(__be32 addr)
{
	return (addr & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || addr == bpf_htonl(0xffffffff);
}

static __always_inline enum counter classify(const struct ethhdr *eth, const struct iphdr *ip,
					     void *end, const struct settings *cfg)
{
	union node node = { .word = *(const volatile __u64 *)&cfg->node };
	struct prefix dst = { .length = 32, .addr = ip->daddr };
	enum counter what = classify_tunnel(ip, end, node);

	if (what != UNDECIDED)
		return what;
	what = classify_snat(ip, end);
	if (what != UNDECIDED)
		return what;
	if (bpf_map_lookup_elem(&local_prefixes, &dst))
		return LOCAL_CIDR;
	if (!node.take_all || is_group(dst.addr))
		return PASSED;
	if (!is_own_mac(eth, *(const volatile __u64 *)&cfg->mac))
		return PASSED;
	if (bpf_map_lookup_elem(&host_addrs, &dst.addr))
		return PASSED;
	return TAKE_ALL;
}

static __always_inline int pass(void)
{
	count(&counters, PASSED);
	return XDP_PASS;
}

// take gives the worker of this queue what is ours. A fragment to an SNAT address
// can be the host's as well as ours, which shows when it is put together: where
// nobody does that, the kernel gets it.
static __always_inline int take(const struct xdp_md *ctx, enum counter what)
{
	int fallback = what == FRAGMENT ? XDP_PASS : XDP_DROP;
	int verdict = bpf_redirect_map(&xsks, ctx->rx_queue_index, fallback);

	count(&counters, what);
	if (verdict == XDP_PASS)
		return pass();
	if (verdict != XDP_REDIRECT)
		count(&counters, NO_SOCKET);
	return verdict;
}

SEC("xdp")
int rw_uplink(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct settings *cfg;
	enum counter what;
	__u32 zero = 0;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return pass();
	if (ip->version != 4 || ip->ihl < 5)
		return pass();
	cfg = bpf_map_lookup_elem(&config, &zero);
	if (!cfg)
		return pass();
	what = classify(eth, ip, end, cfg);
	if (what == PASSED)
		return pass();
	if (what == SNAT_FREE) {
		count(&counters, SNAT_FREE);
		return XDP_DROP;
	}
	return take(ctx, what);
}

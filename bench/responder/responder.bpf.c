//go:build ignore

// SPDX-License-Identifier: Apache-2.0
// The responder: a DNS server that has no records. It turns each query into its
// answer, where it came in, and sends it back.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// The server's address, network byte order. What goes elsewhere is not answered.
volatile const __u32 address;

#define DNS_PORT 53
#define QR 0x8000
#define RA 0x0080

struct dns {
	__be16 id, flags, qdcount, ancount, nscount, arcount;
};

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct dns dns;
} __attribute__((packed));

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

// grown is a UDP checksum, if there is one, after a word under it grew: RFC 1624
// eqn. 3. Swapped addresses and ports leave checksums as they are.
static __always_inline __be16 grown(__be16 check, __u16 more)
{
	__u32 sum = (~bpf_ntohs(check) & 0xffff) + more;

	if (!check)
		return 0;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	return bpf_htons(sum ? sum : 0xffff); // RFC 768
}

SEC("tc")
int respond(struct __sk_buff *skb)
{
	struct headers *h;
	__u16 flags, answer;
	__be32 addr;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	if ((void *)(long)skb->data + sizeof(*h) > (void *)(long)skb->data_end &&
	    bpf_skb_pull_data(skb, sizeof(*h)))
		return TC_ACT_SHOT;
	h = (void *)(long)skb->data;
	if ((void *)(h + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	flags = bpf_ntohs(h->dns.flags);
	if (h->ip.version != 4 || h->ip.ihl != 5 || h->ip.protocol != IPPROTO_UDP || h->ip.daddr != address ||
	    h->udp.dest != bpf_htons(DNS_PORT) || flags & QR)
		return TC_ACT_SHOT;
	swap_macs(&h->eth);
	addr = h->ip.saddr;
	h->ip.saddr = h->ip.daddr;
	h->ip.daddr = addr;
	h->udp.dest = h->udp.source;
	h->udp.source = bpf_htons(DNS_PORT);
	answer = flags | QR | RA;
	h->dns.flags = bpf_htons(answer);
	h->udp.check = grown(h->udp.check, answer - flags);
	return bpf_redirect(skb->ifindex, 0);
}

char _license[] SEC("license") = "Apache-2.0";

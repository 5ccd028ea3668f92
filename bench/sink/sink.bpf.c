//go:build ignore

// SPDX-License-Identifier: Apache-2.0
// The sink: counts the frames that look as they should, and drops them before
// the stack spends time on them.

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_WORDS 12
#define ETH_P_IP 0x0800
#define MAX_FLOWS (1 << 17)

// What a frame must be: its length, and (word & mask) == value for its first
// words. Words past `words` are not looked at.
volatile const __u64 value[MAX_WORDS];
volatile const __u64 mask[MAX_WORDS];
volatile const __u32 words; // 6 or 12
volatile const __u32 length;
// Where a frame has the number of its flow, 32 bits.
volatile const __u32 flow_at;

// While marking is set, the flows of good frames are marked. It is not while a
// rate is measured: it costs cache lines.
__u32 marking;
__u8 seen[MAX_FLOWS];

struct counts {
	__u64 good;
	__u64 bytes; // of the good ones, from the Ethernet header on
	__u64 bad;   // IPv4, but not what was expected
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} totals SEC(".maps");

static __always_inline int differs(const __u64 *data, int from, int to)
{
	__u64 diff = 0;
	int i;

#pragma unroll
	for (i = from; i < to; i++)
		diff |= (data[i] & mask[i]) ^ value[i];
	return diff != 0;
}

static __always_inline int expected(struct __sk_buff *skb)
{
	__u64 *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (skb->len != length)
		return 0;
	if ((void *)(data + 6) > end || differs(data, 0, 6))
		return 0;
	if (words <= 6)
		return 1;
	return (void *)(data + MAX_WORDS) <= end && !differs(data, 6, MAX_WORDS);
}

static __always_inline void mark(struct __sk_buff *skb)
{
	__u16 *flow = (void *)(long)skb->data + flow_at;

	if ((void *)(flow + 2) <= (void *)(long)skb->data_end)
		seen[((__u32)bpf_ntohs(flow[0]) << 16 | bpf_ntohs(flow[1])) & (MAX_FLOWS - 1)] = 1;
}

SEC("tc")
int sink(struct __sk_buff *skb)
{
	struct counts *c;
	__u32 zero = 0;

	// ARP and whatever else hosts say to each other is not the traffic.
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	c = bpf_map_lookup_elem(&totals, &zero);
	if (!c)
		return TC_ACT_SHOT;
	// Headers of a non-linear skb are in its pages: fetch them once.
	if ((void *)(long)skb->data + MAX_WORDS * 8 > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, skb->len < MAX_WORDS * 8 ? skb->len : MAX_WORDS * 8);
	if (!expected(skb)) {
		c->bad++;
		return TC_ACT_SHOT;
	}
	if (marking)
		mark(skb);
	c->good++;
	c->bytes += skb->len;
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Apache-2.0";

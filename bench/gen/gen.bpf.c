//go:build ignore

// SPDX-License-Identifier: Apache-2.0
// The packet generator: run by BPF_PROG_TEST_RUN with live frames, it makes a
// frame out of whatever the page holds and sends it out of a device.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TEMPLATE_WORDS 12

// Offsets of a plain frame: Ethernet 14, IPv4 20, UDP.
#define IP_CHECK 24
#define IP_SADDR_LOW 28
#define UDP_SOURCE 34
// An inner frame starts after outer Ethernet, IPv4, UDP and VXLAN headers.
#define INNER 50

// The first bytes of the frame, with flow number 0 filled in.
volatile const __u64 template_words[TEMPLATE_WORDS];
// The IPv4 checksum field of flow 0, host byte order.
volatile const __u32 base_check;
// UDP source port of flow 0, host byte order.
volatile const __u32 base_port;
volatile const __u32 flows;
volatile const __u32 out_ifindex;

// Only one CPU runs the program at a time, so plain adds are exact.
__u64 generated;
__u32 next_flow;

static __always_inline void put16(void *data, __u32 off, __u16 value)
{
	*(__u16 *)(data + off) = bpf_htons(value);
}

// flow_fields writes what differs between flows: the low half of the source
// address, the UDP source port and the IPv4 checksum (RFC 1624 eqn. 3; flow 0
// has 0 in that half, so the update is one addition).
static __always_inline void flow_fields(void *data, __u32 off, __u32 flow)
{
	__u32 sum = (~base_check & 0xffff) + flow;

	sum = (sum & 0xffff) + (sum >> 16);
	put16(data, off + IP_CHECK, ~sum);
	put16(data, off + IP_SADDR_LOW, flow);
	put16(data, off + UDP_SOURCE, base_port + flow);
}

static __always_inline __u32 take_flow(void)
{
	__u32 flow = next_flow;

	next_flow = flow + 1 < flows ? flow + 1 : 0;
	return flow;
}

// start writes the template's first words. Pages are recycled with whatever the
// device under test made of them, so every header byte is written every time.
static __always_inline int start(struct xdp_md *ctx, int words)
{
	__u64 *data = (void *)(long)ctx->data;
	int i;

	if ((void *)(data + words) > (void *)(long)ctx->data_end)
		return -1;
#pragma unroll
	for (i = 0; i < words; i++)
		data[i] = template_words[i];
	return 0;
}

static __always_inline int out(void)
{
	generated++;
	return bpf_redirect(out_ifindex, 0);
}

SEC("xdp")
int gen_plain(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;

	if (start(ctx, 6) || data + 48 > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	flow_fields(data, 0, take_flow());
	return out();
}

SEC("xdp")
int gen_vxlan(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	__u32 flow;

	if (start(ctx, TEMPLATE_WORDS) || data + 96 > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	flow = take_flow();
	put16(data, UDP_SOURCE, base_port + flow); // the entropy of RFC 7348 section 4.1
	flow_fields(data, INNER, flow);
	return out();
}

char _license[] SEC("license") = "Apache-2.0";

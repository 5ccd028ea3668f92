//go:build ignore

// SPDX-License-Identifier: Apache-2.0
// The packet generator: run by BPF_PROG_TEST_RUN with live frames, it makes a
// frame out of whatever the page holds and sends it out of a device.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TEMPLATE_WORDS 12

// Offsets of a plain frame: Ethernet 14, IPv4 20, UDP 8, payload.
#define IP_CHECK 24
#define IP_SADDR_LOW 28
#define IP_DADDR_LOW 32
#define UDP_SOURCE 34
#define UDP_CHECK 40
#define FLOW_NUMBER 42
// A DNS query has its transaction ID behind the UDP header, and its number in the
// first label of the name.
#define QUERY_ID 42
#define QUERY_NUMBER 56
// An inner frame starts after outer Ethernet, IPv4, UDP and VXLAN headers.
#define INNER 50

// How many source ports there are.
#define PORTS 50000

// The first bytes of the frame, with flow number 0 filled in.
volatile const __u64 template_words[TEMPLATE_WORDS];
// The fields of flow 0 that others differ in, host byte order. A UDP checksum of
// 0 says that there is none.
volatile const __u32 base_check;
volatile const __u32 base_dest; // low half of the destination address
volatile const __u32 base_port;
volatile const __u32 base_udp_check;
volatile const __u32 flows;
volatile const __u32 destinations; // a power of two
volatile const __u32 out_ifindex;
// Of DNS queries: how many source ports there are, how many queries may have no
// answer, and on how many CPUs answers are counted.
volatile const __u32 ports;
volatile const __u32 window;
volatile const __u32 cpus;

// Without any answer for so long, those that are missing are taken for lost. A shared
// machine may take the CPU of who answers away for a part of that.
#define PATIENCE_NS 250000000
#define MAX_CPUS 1024

// The sink's, where DNS queries are made; else there is nothing in it.
struct counts {
	__u64 good;
	__u64 bytes;
	__u64 bad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} totals SEC(".maps");

// Queries that were sent, and those of them that are not waited for any more. What was
// sent and answered when that was found to change last, and when that was.
__u64 sent, lost, last_sent, last_answers, last_progress;

// Only one CPU runs the program at a time, so plain adds are exact.
__u64 generated;
__u32 next_flow;

static __always_inline void put16(void *data, __u32 off, __u16 value)
{
	*(__u16 *)(data + off) = bpf_htons(value);
}

// port_of walks through the ports with the low half of the number, which is also
// that of the source address, and starts one further with each step of the high
// half: no two flows have the same address and port.
static __always_inline __u32 port_of(__u32 flow)
{
	return ((flow & 0xffff) + (flow >> 16)) % PORTS;
}

// added is a checksum after words under it grew by so much together: RFC 1624
// eqn. 3, where ~m + m' is what m' has more than m.
static __always_inline __u16 added(__u32 check, __u32 more)
{
	__u32 sum = (~check & 0xffff) + more;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

// flow_fields writes what differs between flows: the low half of the source
// address, the destination address, the UDP source port, the number of the flow
// in the first bytes of the payload, and checksums. In flow 0 the number and the
// low half of the source address are 0.
static __always_inline void flow_fields(void *data, __u32 off, __u32 flow)
{
	__u32 low = flow & 0xffff, high = flow >> 16;
	__u32 port = port_of(flow), dest = flow & (destinations - 1);
	__u16 check;

	put16(data, off + IP_CHECK, added(base_check, low + dest));
	put16(data, off + IP_SADDR_LOW, low);
	put16(data, off + IP_DADDR_LOW, base_dest + dest);
	put16(data, off + UDP_SOURCE, base_port + port);
	put16(data, off + FLOW_NUMBER, high);
	put16(data, off + FLOW_NUMBER + 2, low);
	if (base_udp_check) {
		check = added(base_udp_check, low + dest + port + high + low);
		put16(data, off + UDP_CHECK, check ? check : 0xffff); // RFC 768
	}
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
	put16(data, UDP_SOURCE, base_port + port_of(flow)); // the entropy of RFC 7348 section 4.1
	flow_fields(data, INNER, flow);
	return out();
}

static __always_inline __u64 answers(void)
{
	__u32 zero = 0, cpu;
	__u64 sum = 0;

	for (cpu = 0; cpu < MAX_CPUS && cpu < cpus; cpu++) {
		struct counts *c = bpf_map_lookup_percpu_elem(&totals, &zero, cpu);

		if (c)
			sum += c->good;
	}
	return sum;
}

// may_ask says whether fewer queries than the window are under way.
static __always_inline int may_ask(void)
{
	__u64 answered = answers(), now;

	if ((__s64)(sent - lost - answered) < (__s64)window)
		return 1;
	now = bpf_ktime_get_ns();
	if (sent != last_sent || answered != last_answers) {
		last_sent = sent;
		last_answers = answered;
		last_progress = now;
	} else if (now - last_progress > PATIENCE_NS) {
		lost = sent - answered;
		last_progress = now;
	}
	return 0;
}

// gen_dns makes queries as long as they are answered. One that has to wait is made
// for nothing, and counts as generated.
SEC("xdp")
int gen_dns(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	__u32 query, low, high, port;
	__u16 check;

	if (!may_ask()) {
		generated++;
		return XDP_DROP;
	}
	if (start(ctx, 6) || data + QUERY_NUMBER + 4 > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	query = take_flow();
	low = query & 0xffff;
	high = query >> 16;
	port = query % ports;
	put16(data, UDP_SOURCE, base_port + port);
	put16(data, QUERY_ID, low);
	put16(data, QUERY_NUMBER, high);
	put16(data, QUERY_NUMBER + 2, low);
	if (base_udp_check) {
		check = added(base_udp_check, port + low + high + low);
		put16(data, UDP_CHECK, check ? check : 0xffff); // RFC 768
	}
	sent++;
	return out();
}

char _license[] SEC("license") = "Apache-2.0";

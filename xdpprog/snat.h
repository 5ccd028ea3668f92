// What comes to an SNAT address is ours or the host's port by port: the ranges
// of both are of one address. User space says of every port whose it is, by a
// store into memory that it shares with this program.
#pragma once

#include "ipv4.h"
#include "uplink.h"

#define PORTS 65536

// A byte for each port. What is above FREE says which worker has the port.
enum port_state {
	PORT_HOST,
	PORT_FREE,
};

// Ports of different protocols have nothing to do with each other. The port of
// an ICMP echo is its id.
enum port_class {
	CLASS_TCP,
	CLASS_UDP,
	CLASS_ICMP,
	CLASS_SCTP,
	CLASSES
};

// By address: its index in snat_ports. Shared by the uplinks; user space sets the size.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __be32);
	__type(value, __u32);
} snat_addrs SEC(".maps");

// By index and class: index * CLASSES + class. Shared as well.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CLASSES);
	__type(key, __u32);
	__uint(value_size, PORTS);
} snat_ports SEC(".maps");

// A port of an SNAT address.
struct snat_port {
	__u32 class;
	__be16 port;
};

static __always_inline int has_ports(__u8 protocol, __u32 *class)
{
	switch (protocol) {
	case IPPROTO_TCP:
		*class = CLASS_TCP;
		return 1;
	case IPPROTO_UDP:
		*class = CLASS_UDP;
		return 1;
	case IPPROTO_SCTP:
		*class = CLASS_SCTP;
		return 1;
	}
	return 0;
}

// Which port an error is about: the source of the datagram that it quotes, which
// must have left from addr.
static __always_inline int quoted_port(const struct icmp *error, __be32 addr, void *end, struct snat_port *of)
{
	const struct iphdr *quoted = (void *)(error + 1);
	const union l4 *l4;

	if ((void *)(quoted + 1) > end || quoted->version != 4 || quoted->ihl < 5)
		return 0;
	if (quoted->saddr != addr || is_later_fragment(quoted))
		return 0;
	l4 = (void *)quoted + quoted->ihl * 4;
	if ((void *)(l4 + 1) > end)
		return 0;
	if (quoted->protocol == IPPROTO_ICMP) {
		of->class = CLASS_ICMP;
		of->port = l4->icmp.id;
		return l4->icmp.type == ICMP_ECHO_REQUEST;
	}
	of->port = l4->ports.source;
	return has_ports(quoted->protocol, &of->class);
}

// Which port a datagram that is no fragment is for. Echo requests and protocols
// without ports are for none.
static __always_inline int addressed_port(const struct iphdr *ip, void *end, struct snat_port *of)
{
	const union l4 *l4 = (void *)ip + ip->ihl * 4;

	if ((void *)(l4 + 1) > end)
		return 0;
	if (ip->protocol != IPPROTO_ICMP) {
		of->port = l4->ports.dest;
		return has_ports(ip->protocol, &of->class);
	}
	if (is_error(l4->icmp.type) || l4->icmp.type == ICMP_SOURCE_QUENCH)
		return quoted_port(&l4->icmp, ip->daddr, end, of);
	of->class = CLASS_ICMP;
	of->port = l4->icmp.id;
	return l4->icmp.type == ICMP_ECHO_REPLY;
}

// The verifier forgets what it knows of a number when its bytes are swapped, and
// the compiler leaves out a mask that changes nothing: hence the assembly.
static __always_inline __u64 array_index(__be16 port)
{
	__u64 i = bpf_ntohs(port);

	asm volatile("%0 &= 0xffff" : "+r"(i));
	return i;
}

// A free port is as if nothing were there, not even a host that would refuse
// (RFC 5382 REQ-4). The ids of the host's own pings nobody knows: what is free
// among ids may be one of these.
static __always_inline enum counter decide_by_port(__u32 index, struct snat_port of)
{
	__u32 key = index * CLASSES + of.class;
	const volatile __u8 *states = bpf_map_lookup_elem(&snat_ports, &key);

	if (!states)
		return PASSED;
	switch (states[array_index(of.port)]) {
	case PORT_HOST:
		return PASSED;
	case PORT_FREE:
		return of.class == CLASS_ICMP ? PASSED : SNAT_FREE;
	}
	return SNAT_USED;
}

static __always_inline enum counter classify_snat(const struct iphdr *ip, void *end)
{
	__be32 addr = ip->daddr;
	const __u32 *index = bpf_map_lookup_elem(&snat_addrs, &addr);
	struct snat_port of;

	if (!index)
		return UNDECIDED;
	if (is_fragment(ip))
		return FRAGMENT;
	if (!addressed_port(ip, end, &of))
		return UNDECIDED;
	return decide_by_port(*index, of);
}

// What the rules of an uplink read of IPv4 and ICMP.
#pragma once

#include "common.h"

// RFC 791 section 3.1, flags and fragment offset.
#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET_MASK 0x1fff

// RFC 792.
#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

// linux/icmp.h draws in headers of the C library that do not suit this target.
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be16 id;  // of an echo
	__be16 sequence;
};

// What an ICMP error quotes at least of a header of layer 4 (RFC 792): 8 bytes.
union l4 {
	struct {
		__be16 source, dest;
		__u32 rest;
	} ports;  // of TCP, UDP and SCTP
	struct icmp icmp;
};

static __always_inline int is_fragment(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET_MASK);
}

// A later fragment has no header of layer 4.
static __always_inline int is_later_fragment(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(IP_OFFSET_MASK);
}

// Errors that quote the datagram which drew them (RFC 792). Source quench, which
// RFC 6633 took out of use, is not among those that a tunnel listens to.
static __always_inline int is_error(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

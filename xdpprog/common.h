// Shared by all programs: the headers they read and how they count.
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// count adds one to a counter of a per-CPU array. All programs run in
// soft interrupts, which do not interrupt each other on a CPU: no atomic is needed.
static __always_inline void count(void *counters, __u32 which)
{
	__u64 *n = bpf_map_lookup_elem(counters, &which);
	if (n)
		(*n)++;
}

char LICENSE[] SEC("license") = "Apache-2.0";

// How an uplink decides: each rule answers with the counter of what it found.
#pragma once

#include "common.h"

enum counter {
	PASSED,
	VXLAN,
	LOCAL_CIDR,
	ICMP_ERROR,
	TAKE_ALL,
	FRAGMENT,   // to an SNAT address: ours, or with no socket the kernel's
	SNAT_USED,  // of a flow at an SNAT address
	SNAT_FREE,  // to a port of ours that no flow has: dropped
	NO_SOCKET,  // ours, but dropped for want of a socket
	COUNTERS
};

// The rule does not apply, the next one is asked.
#define UNDECIDED COUNTERS

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, enum counter);
	__type(value, __u64);
} counters SEC(".maps");

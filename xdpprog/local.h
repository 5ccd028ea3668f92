// What endpoint.c and trunk.c share: one map of counters.
#pragma once

#include "common.h"

enum counter {
	ENDPOINT,           // taken from a pod, towards its worker
	ENDPOINT_UNKNOWN,   // from a device that is no endpoint
	ENDPOINT_NO_TRUNK,  // its worker has no trunk
	TRUNK,              // handed to the worker's socket
	TRUNK_NO_SOCKET,    // no worker is there
	DELIVER,            // from a worker into a pod
	DELIVER_NO_SLOT,    // from a worker to a slot that has no device
	COUNTERS
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, enum counter);
	__type(value, __u64);
} counters SEC(".maps");

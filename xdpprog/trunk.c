//go:build ignore

// The two programs of a trunk, the veth pair between a worker and its pods. The
// near end has the worker's AF_XDP socket; the far end gives what the worker
// sent to the pod that the destination address names.
#include "local.h"

// First three bytes of a slot's address, see SlotMAC.
#define SLOT_PREFIX 0x025257

// Each trunk has a map of its own with one socket: a trunk has one queue.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

// Slot to the host end of the pod's veth pair; user space sets the size.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

SEC("xdp")
int rw_trunk_near(struct xdp_md *ctx)
{
	int verdict = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP);

	count(&counters, verdict == XDP_REDIRECT ? TRUNK : TRUNK_NO_SOCKET);
	return verdict;
}

SEC("xdp")
int rw_trunk_far(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	int verdict = XDP_DROP;

	if ((void *)(eth + 1) <= (void *)(long)ctx->data_end) {
		const __u8 *mac = eth->h_dest;
		__u32 prefix = (__u32)mac[0] << 16 | mac[1] << 8 | mac[2];
		__u32 slot = (__u32)mac[3] << 16 | mac[4] << 8 | mac[5];

		if (prefix == SLOT_PREFIX)
			verdict = bpf_redirect_map(&slots, slot, XDP_DROP);
	}
	count(&counters, verdict == XDP_REDIRECT ? DELIVER : DELIVER_NO_SLOT);
	return verdict;
}

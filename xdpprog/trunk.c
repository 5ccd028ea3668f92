//go:build ignore

// The two programs of a trunk, the veth pair between a worker and its pods. The
// near end has the worker's AF_XDP socket. The far end gives what the worker sent
// to the pod that the destination address names; it does so at tc ingress, where
// the packet can be moved into the pod as it is: XDP on a veth copies it into a
// page first, and only enters a device that has NAPI.
#include "local.h"

#include <linux/pkt_cls.h>

#define PACKET_HOST 0  // linux/if_packet.h

// First three bytes of a slot's address, see SlotMAC.
#define SLOT_PREFIX 0x025257

// Each trunk has a map of its own with one socket: a trunk has one queue.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct slot {
	__u32 ifindex;  // the host end of the pod's veth pair; 0: no pod
	__u32 stack;    // the other end, where that is in the node's own namespace; else 0
};

// User space sets the size.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

SEC("xdp")
int rw_trunk_near(struct xdp_md *ctx)
{
	int verdict = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP);

	count(&counters, verdict == XDP_REDIRECT ? TRUNK : TRUNK_NO_SOCKET);
	return verdict;
}

static __always_inline const struct slot *slot_of(const __u8 *mac)
{
	__u32 prefix = (__u32)mac[0] << 16 | mac[1] << 8 | mac[2];
	__u32 slot = (__u32)mac[3] << 16 | mac[4] << 8 | mac[5];

	return prefix == SLOT_PREFIX ? bpf_map_lookup_elem(&slots, &slot) : 0;
}

// The far end does not have the pod's address, so the packet came in as somebody
// else's (eth_type_trans in net/ethernet/eth.c) and the pod's stack would drop it.
// bpf_redirect looks at the address again at the other device; bpf_redirect_peer
// does not, and only since Linux 6.15 takes every packet as the pod's own.
// The latter leads into other namespaces alone (skb_do_redirect in
// net/core/filter.c), hence the former for the node's own.
SEC("tc")
int rw_trunk_far(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	const struct slot *to = 0;

	if ((void *)(eth + 1) <= (void *)(long)skb->data_end)
		to = slot_of(eth->h_dest);
	if (!to || !to->ifindex) {
		count(&counters, DELIVER_NO_SLOT);
		return TC_ACT_SHOT;
	}
	count(&counters, DELIVER);
	if (to->stack)
		return bpf_redirect(to->stack, BPF_F_INGRESS);
	bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(to->ifindex, 0);
}

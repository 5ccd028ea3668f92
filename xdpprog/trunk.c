//go:build ignore

// The programs of a trunk, the veth pair between a worker and its pods. The near
// end has the worker's AF_XDP socket; the far end gives what the worker sent to
// the pod that the destination address names. For the far end there are two: at
// tc ingress, which hands the worker's skb into the pod as it is, and, for
// kernels without tcx, in XDP, where the skb is copied into a page first.
#include "local.h"

#define TC_ACT_SHOT 2
#define PACKET_HOST 0

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

// Slot to where rw_trunk_peer sends; user space sets the size.
struct peer {
	__u32 ifindex; // 0: the slot is empty
	__u32 local;   // the device is the end in the node's own stack, not the host end
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct peer);
} peers SEC(".maps");

static __always_inline int slot_of(const __u8 *mac, __u32 *slot)
{
	*slot = (__u32)mac[3] << 16 | mac[4] << 8 | mac[5];
	return ((__u32)mac[0] << 16 | mac[1] << 8 | mac[2]) == SLOT_PREFIX;
}

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
		__u32 slot;

		if (slot_of(eth->h_dest, &slot))
			verdict = bpf_redirect_map(&slots, slot, XDP_DROP);
	}
	count(&counters, verdict == XDP_REDIRECT ? DELIVER : DELIVER_NO_SLOT);
	return verdict;
}

// rw_trunk_peer runs at tc ingress. The far end has not the pod's address, so the
// kernel took the frame for somebody else's (eth_type_trans), and going to the
// peer does not look again: hence the change of type. redirect_peer leads into
// another namespace only (skb_do_redirect in net/core/filter.c), so the host port
// is entered through its own ingress.
SEC("tc")
int rw_trunk_peer(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct peer *to = 0;
	__u32 slot;

	if ((void *)(eth + 1) <= (void *)(long)skb->data_end && slot_of(eth->h_dest, &slot))
		to = bpf_map_lookup_elem(&peers, &slot);
	if (!to || !to->ifindex) {
		count(&counters, DELIVER_NO_SLOT);
		return TC_ACT_SHOT;
	}
	count(&counters, DELIVER);
	if (to->local)
		return bpf_redirect(to->ifindex, BPF_F_INGRESS);
	bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(to->ifindex, 0);
}

//go:build ignore

// The program on the host end of a pod's veth pair: takes everything to the
// trunk of the pod's worker. A device that is not known gets nothing through:
// pods fail closed.
#include "local.h"

struct endpoint {
	__u8 mac[6];  // names the slot, see SlotMAC
	__u16 trunk;  // the worker, index into trunks
};

// By ifindex of the host end; user space sets the size.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

// Worker to the far end of its trunk. What is transmitted on the far end comes
// out at the near end, where the worker's socket is.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} trunks SEC(".maps");

SEC("xdp")
int rw_endpoint(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u32 ifindex = ctx->ingress_ifindex;
	struct endpoint *ep;
	int verdict;

	ep = bpf_map_lookup_elem(&endpoints, &ifindex);
	if (!ep || (void *)(eth + 1) > (void *)(long)ctx->data_end) {
		count(&counters, ENDPOINT_UNKNOWN);
		return XDP_DROP;
	}
	// The worker knows the pod by this address, so the pod has no say in it.
	__builtin_memcpy(eth->h_source, ep->mac, ETH_ALEN);
	verdict = bpf_redirect_map(&trunks, ep->trunk, XDP_DROP);
	count(&counters, verdict == XDP_REDIRECT ? ENDPOINT : ENDPOINT_NO_TRUNK);
	return verdict;
}

// Package xdpprog decides, in XDP, which frames a worker gets, and brings what
// workers send into pods.
//
// Three kinds of devices have a program of ours:
//
//	NIC ──▶ uplink ─┬─▶ XSKMAP ──▶ worker       (ours)
//	                └─▶ the kernel              (everything else)
//
//	pod eth0 ══ rwe ──▶ endpoint ──▶ trunk far ══ trunk near ──▶ XSKMAP ──▶ worker
//	pod eth0 ◀─────────────────────── trunk far ══ trunk near ◀──────────── worker
//
// (══ is a veth pair.) On an uplink exactly what is ours is taken: VXLAN to our
// tunnel address, what goes to a local pod or to a port that [NAT] has in use, and
// ICMP errors about our own tunnel packets and such ports. From pods everything is
// taken. A pod hangs on the trunk of its worker instead of having a socket of its
// own, so a worker polls one ring and kicks one socket however many pods it has;
// the endpoint program writes the pod's own MAC (see [SlotMAC]) into each frame,
// which tells the worker where the frame came from in a way that the pod cannot
// forge.
//
// Towards a pod the destination address names the slot. The program at the far end
// of the trunk runs at tc ingress, not in XDP, and moves the packet straight to the
// pod's own device (bpf_redirect_peer): no copy, no second poll, and nothing that
// the pod's device has to have switched on. The node's own stack is slot 0, the
// host port: both its ends are in the node's namespace, where bpf_redirect_peer
// does not lead, so the packet is put on the ingress of the end in the stack.
//
// Needed are Linux 5.10 for bpf_redirect_peer, and CONFIG_NET_CLS_BPF and
// CONFIG_NET_SCH_INGRESS below 6.6, which has tcx: without that the program is a
// classifier, which its device keeps.
//
// Programs, maps and attachments (bpf_link) are pinned on a bpffs. When the
// process dies they stay: what is ours is then dropped (but for fragments to an
// SNAT address), never answered by the kernel, and the next process takes them over by an atomic exchange of the
// program. Only [Uplink.Detach], [Local.DetachEndpoint], [OpenLocal] with fewer
// workers than before, and [Cleanup] take them away.
//
// Devices are found in the network namespace of the calling thread, so all
// functions that take an ifindex are to be called in the namespace of the device.
// A pin lives as long as its bpffs mount does: mount it in a mount namespace that
// outlives the process, not in the private one that `ip netns exec` makes.
package xdpprog

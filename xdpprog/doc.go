// Package xdpprog decides, in XDP, which frames a worker gets.
//
// Three kinds of devices have a program of ours:
//
//	NIC ──▶ uplink ─┬─▶ XSKMAP ──▶ worker       (ours)
//	                └─▶ the kernel              (everything else)
//
//	pod eth0 ══ rwe ──▶ endpoint ──▶ trunk far ══ trunk near ──▶ XSKMAP ──▶ worker
//	pod eth0 ══ rwe ◀──────────────── trunk far ══ trunk near ◀──────────── worker
//
// (══ is a veth pair.) On an uplink exactly what is ours is taken: VXLAN to our
// tunnel address, what goes to a local pod, and ICMP errors about our own
// tunnel packets. From pods everything is taken. A pod hangs on the trunk of its
// worker instead of having a socket of its own, so a worker polls one ring and
// kicks one socket however many pods it has; the endpoint program writes the
// pod's own MAC (see [SlotMAC]) into each frame, which tells the worker where
// the frame came from in a way that the pod cannot forge.
//
// Programs, maps and attachments (bpf_link) are pinned on a bpffs. When the
// process dies they stay: what is ours is then dropped, never answered by the
// kernel, and the next process takes them over by an atomic exchange of the
// program. Only [Uplink.Detach], [Local.DetachEndpoint] and [Cleanup] take them
// away.
//
// Devices are found in the network namespace of the calling thread, so all
// functions that take an ifindex are to be called in the namespace of the device.
// A pin lives as long as its bpffs mount does: mount it in a mount namespace that
// outlives the process, not in the private one that `ip netns exec` makes.
package xdpprog

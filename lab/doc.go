// Package lab builds the testbed: a small cluster in network namespaces, with
// real kernels at both ends of every wire. The command line (ringway lab), the
// tour and the end-to-end tests all use this package.
//
//	pod1 10.200.0.3     pod2 10.200.1.4     pod3 10.200.2.5              pod4 10.200.3.6
//	     |                   |                   |                           |
//	   node1               node2               node3 (plain Linux)         node4
//	   eth0 .100           eth0 .101           eth0 .102                   eth0 192.168.1.103
//	   |    \ eth1 .2.100  |                   |                           |
//	   |     \             |                   |                           |
//	---+------|--- lan ----+-------------------+---- 192.168.0.0/24        |
//	          |             |                                              |
//	          |        eth0 | 192.168.0.1                                  |
//	          +--------- router ---------------------------- 192.168.1.1 --+
//	     192.168.2.1        | 198.51.100.1        lo 10.10.1.1, 10.10.2.1
//	                        |
//	                   ext 198.51.100.10
//
// The controller is on ctrl1, 192.168.0.10 on lan, and keeps the cluster's state by
// itself. In a second form there are up to three controllers, and up to three etcd
// members as processes of their own, on ctrl1 to ctrl3; in a third one none, and each
// agent has a tables file.
//
// node1, node2 and node4 run the agent; node3 is the interoperability peer: a
// kernel vxlan device, kernel routes, offloads left at their defaults. The
// router has routes for every node CIDR, so that direct routing works, and two
// networks of its own. Masquerading is on: what pods send to those, or to ext, has
// the address of their node's uplink.
//
// Every namespace is named prefix+host under /run/netns, every file is under
// Dir(prefix), a tmpfs, and pins are on a bpffs of the lab's own. Nothing of the
// machine is touched: links are made inside the namespaces, never in the caller's.
// So taking a lab down is: end its processes, delete its namespaces, unmount,
// remove the directory.
package lab

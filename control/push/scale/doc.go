// Package scale measures a controller under many nodes: its parts are the real ones,
// with an embedded etcd, and the nodes are streams over a unix socket. Most of them
// keep no tables: they follow the digests, verify the one at the end, and answer.
// Some do what an agent does, up to the point where the tables would reach the
// dataplane.
package scale

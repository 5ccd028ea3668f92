// Package natconf holds a NAT against the RFCs that say how one has to behave:
// RFC 4787 (UDP), RFC 5382 (TCP), RFC 5508 (ICMP), RFC 7857 (their update), the
// parts of RFC 6888 that make sense on a node, and attacks that no RFC names.
//
// Each requirement has a probe: a function that sends raw frames from two pods
// and from the outside, and judges by what arrives. The same probe runs on a node
// with Ringway and on the plain Linux node with nftables masquerade, in one lab.
// What comes out is held against what is expected, so that a change is noticed in
// either direction, and is the table in docs/conformance.md:
//
//	go test ./lab/natconf -update
//
// The package has tests only.
package natconf

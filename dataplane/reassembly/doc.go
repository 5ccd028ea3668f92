// Package reassembly is virtual reassembly of IPv4 fragments (RFC 4787 REQ-14):
// nothing is glued together. Every fragment learns the ports of its datagram
// from the first one and then goes on by itself, so that a datagram leaves in the
// pieces in which it came. Fragments that are earlier than the first wait for it.
//
// All of it is bounded, because whoever sends fragments chooses what has to be
// remembered: so many datagrams, so many of one source, so many packets that wait,
// and each of them for so long. A flood of fragments without a first one takes the
// room of those that wait, never that of datagrams whose first one has passed.
//
// A datagram whose fragments overlap is dropped whole, with those of its fragments
// that wait and those that are yet to come (RFC 5722 4, which is IPv6's rule;
// RFC 1858 says why IPv4 needs it as much). An exact duplicate is dropped alone, as
// RFC 8200 4.5 allows.
//
// A table has one owner and no lock, and allocates nothing after [New].
package reassembly

package object

import (
	"net"
	"net/netip"
)

// nodeFacts is what a Node's spec says, read.
type nodeFacts struct {
	of      *Node
	address netip.Addr
	cidrs   []netip.Prefix
	mac     [6]byte // that its VTEP uses
}

// remember reads the facts once. Nobody else may have n yet.
func (n *Node) remember() { n.known = n.read() }

// facts does not fall for those of the node that n is a copy of.
func (n *Node) facts() *nodeFacts {
	if n.known != nil && n.known.of == n {
		return n.known
	}
	return n.read()
}

func (n *Node) read() *nodeFacts {
	f := &nodeFacts{of: n, address: address(n.Spec.Address), cidrs: prefixes(n.Spec.NodeCIDRs)}
	f.mac = f.vtepMAC(n.Spec.VTEPMAC)
	return f
}

// vtepMAC is the one that is given, or derived as the dataplane does.
func (f *nodeFacts) vtepMAC(given string) [6]byte {
	if m, err := net.ParseMAC(given); err == nil && len(m) == 6 {
		return [6]byte(m)
	}
	if !f.address.Is4() {
		return [6]byte{}
	}
	b := f.address.As4()
	return [6]byte{0x02, 0x52, b[0], b[1], b[2], b[3]}
}

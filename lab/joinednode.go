package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// JoinedNode is a node that the cluster does not know before its agent joins: its
// CIDR comes from a pool.
type JoinedNode struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// AddNode makes a node on the shared segment and has its agent join the cluster.
// The address is one of 192.168.0.0/24 that nobody has.
func (l *Lab) AddNode(ctx context.Context, name string, address netip.Addr) error {
	if !l.HasControl() {
		return errors.New("nodes that join by themselves need a controller")
	}
	if err := checkName(name); err != nil {
		return fmt.Errorf("node %w", err)
	}
	n := JoinedNode{Name: name, Address: address}
	if err := l.recordNode(n); err != nil {
		return err
	}
	if err := l.makeHost(name, false); err != nil {
		return err
	}
	b, err := newBuilder(l, name, "lan")
	if err != nil {
		return err
	}
	defer b.close()
	err = errors.Join(
		b.loopback(name),
		b.cable(cable{end{name, "eth0", address.String() + "/24"}, end{"lan", name, ""}}),
	)
	if err != nil {
		return err
	}
	if err := b.route(name, route{to: "default", via: "192.168.0.1"}); err != nil {
		return err
	}
	if err := l.writeAgent(name); err != nil {
		return err
	}
	if err := l.Start(name); err != nil {
		return err
	}
	return l.WaitTables(ctx, name, 1)
}

// recordNode notes the node before it exists, so that Down finds it.
func (l *Lab) recordNode(n JoinedNode) error {
	if slices.Contains(l.Hosts(), n.Name) {
		return fmt.Errorf("node %s: there is a host of that name already", n.Name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.JoinedNodes = append(l.state.JoinedNodes, n)
	return l.save()
}

// nodeAddress is where a node is reached.
func (l *Lab) nodeAddress(host string) string {
	if n, ok := nodeByName(host); ok {
		return n.address
	}
	return l.Address(host).String()
}

// joinedNode finds a node that joined by itself.
func (l *Lab) joinedNode(name string) (JoinedNode, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.state.JoinedNodes, func(n JoinedNode) bool { return n.Name == name })
	if i < 0 {
		return JoinedNode{}, false
	}
	return l.state.JoinedNodes[i], true
}

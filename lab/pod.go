package lab

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// AddPod makes a pod namespace and attaches it to a node: through the agent's
// socket where there is one, else as plain Linux does.
func (l *Lab) AddPod(name, onNode string, address netip.Addr) error {
	return l.AddLabelledPod(name, onNode, address, nil)
}

// AddLabelledPod is AddPod with labels. Plain Linux has none.
func (l *Lab) AddLabelledPod(name, onNode string, address netip.Addr, labels map[string]string) error {
	p := Pod{Name: name, Node: onNode, Address: address, Labels: labels}
	if err := checkPod(p); err != nil {
		return err
	}
	if err := l.recordPod(p); err != nil {
		return err
	}
	if err := l.makeHost(name, false); err != nil {
		return err
	}
	b, err := newBuilder(l, name, onNode)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.loopback(name); err != nil {
		return err
	}
	if onNode == linuxNode {
		return b.linuxPod(p)
	}
	return l.AttachPod(name)
}

// recordPod notes the pod before it exists, so that Down finds also one that
// was only half made.
func (l *Lab) recordPod(p Pod) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.state.Pods {
		if other.Name == p.Name || other.Address == p.Address {
			return fmt.Errorf("pod %s with %s: there is %s with %s already", p.Name, p.Address, other.Name, other.Address)
		}
	}
	if namespaceExists(l.namespace(p.Name)) {
		return fmt.Errorf("pod %s: namespace %s exists already", p.Name, l.namespace(p.Name))
	}
	l.state.Pods = append(l.state.Pods, p)
	return l.save()
}

// AttachPod asks the agent of the pod's node for its endpoint.
func (l *Lab) AttachPod(name string) error {
	p, ok := l.pod(name)
	if !ok {
		return l.Check(name)
	}
	l.logf("endpoint %s %s on %s", name, p.Address, p.Node)
	args := []string{"endpoint", "add", name, "--netns", l.Netns(name), "--ip", p.Address.String()}
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		args = append(args, "--label", key+"="+p.Labels[key])
	}
	return l.ringway(p.Node, args...)
}

// DetachPod asks the agent to take the pod's endpoint away; the namespace stays.
func (l *Lab) DetachPod(name string) error {
	p, ok := l.pod(name)
	if !ok {
		return l.Check(name)
	}
	return l.ringway(p.Node, "endpoint", "del", name)
}

// DelPod detaches a pod and removes its namespace, with all that runs in it.
func (l *Lab) DelPod(name string) error {
	p, ok := l.pod(name)
	if !ok {
		return fmt.Errorf("there is no pod %q", name)
	}
	if p.Node != linuxNode {
		if err := l.DetachPod(name); err != nil {
			return err
		}
	}
	if err := killInside(l.namespace(name)); err != nil {
		return err
	}
	if err := deleteNamespace(l.namespace(name)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Pods = slices.DeleteFunc(l.state.Pods, func(p Pod) bool { return p.Name == name })
	return l.save()
}

// ringway runs the lab's own binary on a host and puts what it said into the
// error.
func (l *Lab) ringway(host string, args ...string) error {
	out, err := l.Command(host, l.state.Binary, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("on %s: ringway %v: %w: %s", host, args, err, lastLine(out))
	}
	return nil
}

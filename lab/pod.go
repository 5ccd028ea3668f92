package lab

import (
	"context"
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

// AddLabelledPod is AddPod with labels.
func (l *Lab) AddLabelledPod(name, onNode string, address netip.Addr, labels map[string]string) error {
	return l.StartPod(Pod{Name: name, Node: onNode, Address: address, Labels: labels})
}

// StartPod is AddPod with all that a pod may have. Plain Linux has neither
// namespaces, labels nor ports: the controller, where there is one, is told of them.
func (l *Lab) StartPod(p Pod) error {
	if err := l.admitPod(p); err != nil {
		return err
	}
	if err := l.recordPod(p); err != nil {
		return err
	}
	if err := l.makeHost(p.Name, false); err != nil {
		return err
	}
	b, err := newBuilder(l, p.Name, p.Node)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.loopback(p.Name); err != nil {
		return err
	}
	if p.Node != linuxNode {
		return l.AttachPod(p.Name)
	}
	if err := b.linuxPod(p); err != nil {
		return err
	}
	return l.registerPod(p)
}

func (l *Lab) admitPod(p Pod) error {
	if _, joined := l.joinedNode(p.Node); !joined {
		return checkPod(p)
	}
	if err := checkName(p.Name); err != nil {
		return fmt.Errorf("pod %w", err)
	}
	return nil
}

// recordPod notes the pod before it exists, so that Down finds also one that
// was only half made.
func (l *Lab) recordPod(p Pod) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.state.Pods {
		if other.Name == p.Name || p.Address.IsValid() && other.Address == p.Address {
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
	args := []string{"endpoint", "add", p.endpoint(), "--netns", l.Netns(name)}
	if p.Address.IsValid() {
		args = append(args, "--ip", p.Address.String())
	}
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		args = append(args, "--label", key+"="+p.Labels[key])
	}
	for _, port := range p.Ports {
		args = append(args, "--port", port)
	}
	l.logf("endpoint %s on %s", p.endpoint(), p.Node)
	if err := l.ringway(p.Node, args...); err != nil || p.Address.IsValid() {
		return err
	}
	return l.learnAddress(p)
}

// learnAddress notes the address that a pod was given.
func (l *Lab) learnAddress(p Pod) error {
	client, err := l.Agent(p.Node)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), changePatience)
	defer cancel()
	list, err := client.Endpoints(ctx)
	if err != nil {
		return fmt.Errorf("ask the agent of %s for the address of %s: %w", p.Node, p.Name, err)
	}
	for _, e := range list.GetItems() {
		if e.GetName() != p.endpoint() {
			continue
		}
		address, err := netip.ParseAddr(e.GetAddress())
		if err != nil {
			return fmt.Errorf("address of %s: %w", p.Name, err)
		}
		return l.changePod(p.Name, func(p *Pod) { p.Address = address })
	}
	return fmt.Errorf("the agent of %s does not list %s", p.Node, p.endpoint())
}

// changePod edits what is noted of a pod.
func (l *Lab) changePod(name string, edit func(*Pod)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.state.Pods {
		if l.state.Pods[i].Name == name {
			edit(&l.state.Pods[i])
		}
	}
	return l.save()
}

// DetachPod asks the agent to take the pod's endpoint away; the namespace stays.
func (l *Lab) DetachPod(name string) error {
	p, ok := l.pod(name)
	if !ok {
		return l.Check(name)
	}
	return l.ringway(p.Node, "endpoint", "del", p.endpoint())
}

// DelPod detaches a pod and removes its namespace, with all that runs in it.
func (l *Lab) DelPod(name string) error {
	p, ok := l.pod(name)
	if !ok {
		return fmt.Errorf("there is no pod %q", name)
	}
	detach := l.DetachPod
	if p.Node == linuxNode {
		detach = l.unregisterPod
	}
	if err := detach(name); err != nil {
		return err
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

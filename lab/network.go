package lab

import "fmt"

// bridgeName is the shared segment's device in the namespace of that name.
const bridgeName = "lan0"

// buildNetwork makes all that needs only the kernel: namespaces, links,
// addresses, routes and the plain Linux node.
func (l *Lab) buildNetwork() error {
	hosts := l.Hosts()
	for _, host := range hosts {
		if err := l.makeHost(host, host == "router" || host == linuxNode); err != nil {
			return err
		}
	}
	b, err := newBuilder(l, hosts...)
	if err != nil {
		return err
	}
	defer b.close()
	for _, host := range hosts {
		if err := b.loopback(host); err != nil {
			return err
		}
	}
	for _, e := range loopbacks {
		if err := b.configure(e); err != nil {
			return err
		}
	}
	if err := b.bridge("lan", bridgeName, l.state.UnderlayMTU); err != nil {
		return err
	}
	for _, c := range cables {
		if err := b.cable(c); err != nil {
			return err
		}
	}
	for i := range l.state.controlHosts() {
		if err := b.cable(controlCable(i)); err != nil {
			return err
		}
	}
	return b.routes()
}

// makeHost makes a namespace with settings that do not depend on the machine.
func (l *Lab) makeHost(host string, forward bool) error {
	l.logf("namespace %s", l.namespace(host))
	if err := createNamespace(l.namespace(host)); err != nil {
		return err
	}
	if err := l.Do(host, func() error { return prepare(forward) }); err != nil {
		return fmt.Errorf("prepare %s: %w", host, err)
	}
	return l.writeResolvConf(host)
}

func (b *builder) cable(c cable) error {
	if err := b.veth(c.a, c.b, b.lab.state.UplinkQueues, b.lab.state.UnderlayMTU); err != nil {
		return err
	}
	if c.b.host == "lan" {
		return b.plug("lan", c.b.device, bridgeName)
	}
	return nil
}

// routes gives every host its default route and the router one route for each
// node CIDR.
func (b *builder) routes() error {
	if err := b.route("ext", route{to: "default", via: "198.51.100.1"}); err != nil {
		return err
	}
	for _, host := range b.lab.state.controlHosts() {
		if err := b.route(host, route{to: "default", via: "192.168.0.1"}); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := b.route(n.name, route{to: "default", via: n.gateway}); err != nil {
			return err
		}
		if err := b.route("router", route{to: n.cidr, via: n.via}); err != nil {
			return err
		}
	}
	return b.linuxNode(b.lab.state.Routing)
}

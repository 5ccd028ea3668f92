package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// The DNS of the original document: kube-dns on a pod of node2, a node-local cache
// on a pod of node1 and, in a second form, on node1 itself, and the server of the
// world outside on ext. All are CoreDNS.
const (
	kubeDNSPod      = "kubedns"
	kubeDNSNode     = "node2"
	cachePod        = "nodelocaldns"
	cacheNode       = "node1"
	authorityServer = "ext"

	dnsNamespace = "kube-system"
)

var (
	// KubeDNS is the service that the pods' resolv.conf names.
	KubeDNS = netip.MustParseAddrPort("10.96.0.10:53")
	// kubeDNSUpstream is a second service with the same backends: what the cache
	// asks, so that a redirect of the first does not send it to itself.
	kubeDNSUpstream = netip.MustParseAddr("10.96.0.11")
	// HostCache is where the node-local cache listens in its second form.
	HostCache = netip.MustParseAddrPort("169.254.20.10:53")

	kubeDNSAddress = netip.MustParseAddr("10.200.1.10")
	cacheAddress   = netip.MustParseAddr("10.200.0.10")
)

// dnsReady is how long a server may take until it answers.
const dnsReady = 20 * time.Second

// StartDNS starts the cluster's DNS and the world's, and puts the services of
// kube-dns into the table sets of all agents. binary is a CoreDNS, as make coredns
// builds it. No redirect is in force afterwards.
func (l *Lab) StartDNS(ctx context.Context, binary string) error {
	if err := l.recordDNS(binary); err != nil {
		return err
	}
	for _, host := range l.Agents() {
		if err := l.Update(ctx, host, func(t map[string]any) { t["services"] = dnsServices() }); err != nil {
			return err
		}
	}
	err := errors.Join(
		l.writeAuthority(),
		l.addDNSPod(kubeDNSPod, kubeDNSNode, kubeDNSAddress, "kube-dns"),
		l.addDNSPod(cachePod, cacheNode, cacheAddress, "node-local-dns"),
	)
	if err != nil {
		return err
	}
	err = errors.Join(l.writeKubeDNS(), l.writeCache(cachePod, "0.0.0.0", kubeDNSUpstream))
	if err != nil {
		return err
	}
	for _, host := range []string{authorityServer, kubeDNSPod, cachePod} {
		if err := l.StartDNSServer(host); err != nil {
			return err
		}
	}
	return nil
}

// recordDNS notes that the lab has DNS.
func (l *Lab) recordDNS(binary string) error {
	if len(l.Agents()) == 0 {
		return errors.New("DNS needs a lab with agents")
	}
	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no CoreDNS at %s: build it (make coredns)", binary)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.CoreDNS != "" {
		return errors.New("the lab has DNS already")
	}
	l.state.CoreDNS = binary
	return l.save()
}

// HasDNS says whether StartDNS was called.
func (l *Lab) HasDNS() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.CoreDNS != ""
}

func (l *Lab) addDNSPod(name, node string, address netip.Addr, app string) error {
	return l.StartPod(Pod{
		Name: name, Node: node, Address: address, Namespace: dnsNamespace, Labels: map[string]string{"k8s-app": app},
	})
}

// dnsServices are the services in front of kube-dns.
func dnsServices() []any {
	dnsPorts := []any{
		map[string]any{"name": "dns", "protocol": "UDP", "port": 53},
		map[string]any{"name": "dns-tcp", "protocol": "TCP", "port": 53},
	}
	metrics := map[string]any{"name": "metrics", "protocol": "TCP", "port": 9153}
	return []any{
		dnsService("kube-dns", KubeDNS.Addr(), append(dnsPorts, metrics)),
		dnsService("kube-dns-upstream", kubeDNSUpstream, dnsPorts),
	}
}

func dnsService(name string, address netip.Addr, ports []any) map[string]any {
	return map[string]any{
		"namespace": dnsNamespace, "name": name, "address": address.String(), "ports": ports,
		"backends": []any{kubeDNSAddress.String()},
	}
}

// dnsServer is the CoreDNS of a host.
func (l *Lab) dnsServer(host string) daemon {
	return daemon{
		what:    "CoreDNS on " + host,
		config:  l.hostFile(host, "Corefile"),
		logFile: l.hostFile(host, "coredns.log"),
		pidFile: l.hostFile(host, "coredns.pid"),
	}
}

func (l *Lab) hostFile(host, name string) string { return filepath.Join(l.hostDir(host), name) }

// StartDNSServer starts the DNS server of a host, and waits until it answers.
func (l *Lab) StartDNSServer(host string) error {
	server := l.dnsServer(host)
	if _, err := os.Stat(server.config); err != nil {
		return fmt.Errorf("%s: start the lab's DNS first: %w", server.what, err)
	}
	l.logf("%s", server.what)
	cmd := l.Inside(host, l.state.CoreDNS, "-conf", server.config)
	cmd.Env = append(cmd.Env, "KUBERNETES_SERVICES_FILE="+l.hostFile(host, servicesFile))
	ended, err := server.start(cmd)
	if err != nil {
		return err
	}
	return l.waitDNSServer(host, server, ended)
}

// waitDNSServer waits until the server answers anything. What it answers at once is
// that it knows nothing of the class CHAOS.
func (l *Lab) waitDNSServer(host string, server daemon, ended <-chan error) error {
	r, err := l.NewResolver(host, l.dnsListener(host))
	if err != nil {
		return err
	}
	defer r.Close()
	deadline := time.Now().Add(dnsReady)
	for {
		_, err := r.Ask(20*time.Millisecond, Question{Name: "version.bind.", Type: dns.TypeTXT, Class: dns.ClassCHAOS})
		if err == nil {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%s ended at start: %s: %w", server.what, server.lastLog(), errors.Join(err, errEndedCleanly))
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer after %s: %s: %w", server.what, dnsReady, server.lastLog(), err)
		}
		time.Sleep(time.Millisecond)
	}
}

// dnsListener is an address at which the host itself reaches its server.
func (l *Lab) dnsListener(host string) netip.AddrPort {
	if host == cacheNode {
		return HostCache
	}
	return netip.AddrPortFrom(l.Address(host), 53)
}

// StopDNSServer ends the DNS server of a host by SIGTERM, KillDNSServer by SIGKILL,
// as a crash would. Both wait until it is gone, and are done if none runs.
func (l *Lab) StopDNSServer(host string) error { return l.dnsServer(host).end(unix.SIGTERM) }

// KillDNSServer is described at StopDNSServer.
func (l *Lab) KillDNSServer(host string) error { return l.dnsServer(host).end(unix.SIGKILL) }

// StartHostCache starts the cache in its second form: a process of node1 itself, at
// HostCache.
func (l *Lab) StartHostCache() error {
	b, err := newBuilder(l, cacheNode)
	if err != nil {
		return err
	}
	defer b.close()
	link, err := b.link(cacheNode, "lo")
	if err != nil {
		return err
	}
	if err := b.address(cacheNode, link, HostCache.Addr().String()+"/32"); err != nil {
		return err
	}
	// Services are for pods: what the node itself sends is none of Ringway's, so
	// that the cache asks the pod behind the service.
	if err := l.writeCache(cacheNode, HostCache.Addr().String(), kubeDNSAddress); err != nil {
		return err
	}
	return l.StartDNSServer(cacheNode)
}

// StopHostCache undoes StartHostCache.
func (l *Lab) StopHostCache() error {
	if err := l.StopDNSServer(cacheNode); err != nil {
		return err
	}
	b, err := newBuilder(l, cacheNode)
	if err != nil {
		return err
	}
	defer b.close()
	return b.removeAddress(cacheNode, "lo", HostCache.Addr().String()+"/32")
}

// DNSLog is what the DNS server of a host has logged so far.
func (l *Lab) DNSLog(host string) (string, error) {
	data, err := os.ReadFile(l.dnsServer(host).logFile)
	if err != nil {
		return "", fmt.Errorf("read the log of CoreDNS on %s: %w", host, err)
	}
	return string(data), nil
}

// resolverAddress is the node's resolver: what a node, and a pod that has the
// node's DNS policy (Default), asks.
func resolverAddress() netip.Addr {
	a, _ := fixedAddress(authorityServer)
	return a
}

// resolvConf is what a host's /etc/resolv.conf says. That of a pod is the original
// document's.
func resolvConf(host string, pod bool) string {
	if !pod || host == kubeDNSPod || host == cachePod {
		return "nameserver " + resolverAddress().String() + "\n"
	}
	return strings.Join([]string{
		"search kube-system.svc.cluster.local svc.cluster.local cluster.local",
		"nameserver " + KubeDNS.Addr().String(),
		"options ndots:5", "",
	}, "\n")
}

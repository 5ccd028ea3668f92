package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"ringway/control/pki"
)

// The lab has two CAs: one for nodes, controllers and people, and one for etcd, so
// that no node's certificate opens etcd, which knows no roles.
const (
	clusterCA = "ca"
	etcdCA    = "etcd-ca"
)

// certificateTTL is how long the lab's certificates live: longer than labs do.
const certificateTTL = 30 * 24 * time.Hour

func (l *Lab) authority(name string) string { return filepath.Join(Dir(l.state.Prefix), name) }

// makeAuthority makes the CAs.
func (l *Lab) makeAuthority() error {
	for ca, domain := range map[string]string{clusterCA: "lab.ringway", etcdCA: "etcd.lab.ringway"} {
		if err := pki.InitCA(l.authority(ca), domain, pki.DefaultCATTL); err != nil {
			return fmt.Errorf("make the lab's CA: %w", err)
		}
	}
	return nil
}

// issue makes a certificate and puts it, with its key and its CA, into a directory
// of a host.
func (l *Lab) issue(ca, host, as string, r pki.Request) (pki.Files, error) {
	out := l.hostFile(host, as)
	r.TTL = certificateTTL
	if _, err := pki.Issue(l.authority(ca), out, r); err != nil {
		return pki.Files{}, fmt.Errorf("make a certificate for %s: %w", host, err)
	}
	return pki.FilesIn(out), nil
}

// issueNode makes the certificate by which the agent of a node joins.
func (l *Lab) issueNode(host string) (pki.Files, error) {
	return l.issue(clusterCA, host, "tls", pki.Request{Role: pki.RoleNode, Name: host})
}

// issueController makes a controller's certificate.
func (l *Lab) issueController(host string) (pki.Files, error) {
	return l.issue(clusterCA, host, "tls", pki.Request{Role: pki.RoleController, Name: host, Addresses: []netip.Addr{l.Address(host)}})
}

// issueEtcdClient makes the certificate by which a controller uses etcd.
func (l *Lab) issueEtcdClient(host string) (pki.Files, error) {
	return l.issue(etcdCA, host, "etcd-client-tls", pki.Request{Role: pki.RoleController, Name: host})
}

// issueEtcd makes the certificate of an etcd member, for clients and peers.
func (l *Lab) issueEtcd(member string) (pki.Files, error) {
	host := etcdHost(member)
	return l.issue(etcdCA, host, "etcd-tls", pki.Request{Role: pki.RoleEtcd, Name: member, Addresses: []netip.Addr{l.Address(host)}})
}

// tlsFiles is how a configuration names the files of a certificate.
func tlsFiles(f pki.Files) map[string]any {
	return map[string]any{"ca": f.CA, "cert": f.Cert, "key": f.Key}
}

// joinByCertificate has an agent's configuration say which controllers it joins.
func (l *Lab) joinByCertificate(host string, config map[string]any) error {
	files, err := l.issueNode(host)
	if err != nil {
		return err
	}
	config["controllers"], config["tls"] = l.controllerAddresses(), tlsFiles(files)
	config["address"] = l.nodeAddress(host)
	return nil
}

package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Ports of an etcd member, as etcd has them by default.
const (
	etcdClientPort = 2379
	etcdPeerPort   = 2380
)

// EtcdMembers lists the etcd members, as in "etcd1", which shares its host with the
// controller of ctrl1. There are none where etcd is embedded in the controller.
func (l *Lab) EtcdMembers() []string {
	var names []string
	for i := range l.state.Etcd {
		names = append(names, fmt.Sprintf("etcd%d", i+1))
	}
	return names
}

// etcdHost is the host of a member, etcdAddress its address.
func etcdHost(member string) string { return "ctrl" + strings.TrimPrefix(member, "etcd") }

func etcdAddress(member string) string {
	a, _ := fixedAddress(etcdHost(member))
	return a.String()
}

func etcdURL(member string, port int) string {
	return fmt.Sprintf("https://%s:%d", etcdAddress(member), port)
}

// etcdEndpoints are where controllers reach the members.
func (l *Lab) etcdEndpoints() []any {
	var list []any
	for _, member := range l.EtcdMembers() {
		list = append(list, etcdURL(member, etcdClientPort))
	}
	return list
}

func (l *Lab) etcd(member string) daemon {
	host := etcdHost(member)
	return daemon{
		what: "the etcd member " + member, config: l.hostFile(host, "etcd.yaml"),
		logFile: l.hostFile(host, "etcd.log"), pidFile: l.hostFile(host, "etcd.pid"),
	}
}

// buildEtcd starts all members. None answers before most of them run.
func (l *Lab) buildEtcd() error {
	wait := map[string]<-chan error{}
	for _, member := range l.EtcdMembers() {
		if err := l.writeEtcd(member); err != nil {
			return err
		}
		ended, err := l.launchEtcd(member)
		if err != nil {
			return err
		}
		wait[member] = ended
	}
	for member, ended := range wait {
		if err := l.waitEtcd(member, ended); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) startEtcd(member string) error {
	ended, err := l.launchEtcd(member)
	if err != nil {
		return err
	}
	return l.waitEtcd(member, ended)
}

func (l *Lab) launchEtcd(member string) (ended <-chan error, err error) {
	l.logf("etcd member %s on %s", member, etcdHost(member))
	d := l.etcd(member)
	return d.start(l.Command(etcdHost(member), l.state.EtcdBinary, "--config-file", d.config))
}

// waitEtcd waits until a member takes clients: it does once it is one of a cluster.
func (l *Lab) waitEtcd(member string, ended <-chan error) error {
	address := net.JoinHostPort(etcdAddress(member), fmt.Sprint(etcdClientPort))
	return l.etcd(member).waitReady(ended, func() (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return l.DialTCP(ctx, etcdHost(member), address)
	})
}

func (l *Lab) writeEtcd(member string) error {
	host := etcdHost(member)
	files, err := l.issueEtcd(member)
	if err != nil {
		return err
	}
	data := l.hostFile(host, "etcd")
	if err := os.MkdirAll(data, 0o700); err != nil { // etcd wants it private
		return fmt.Errorf("make the data directory of %s: %w", member, err)
	}
	var cluster []string
	for _, m := range l.EtcdMembers() {
		cluster = append(cluster, m+"="+etcdURL(m, etcdPeerPort))
	}
	security := map[string]any{
		"cert-file": files.Cert, "key-file": files.Key, "trusted-ca-file": files.CA, "client-cert-auth": true,
	}
	doc, err := yaml.Marshal(map[string]any{
		"name":                        member,
		"data-dir":                    data,
		"listen-peer-urls":            etcdURL(member, etcdPeerPort),
		"listen-client-urls":          etcdURL(member, etcdClientPort),
		"initial-advertise-peer-urls": etcdURL(member, etcdPeerPort),
		"advertise-client-urls":       etcdURL(member, etcdClientPort),
		"initial-cluster":             strings.Join(cluster, ","),
		"initial-cluster-state":       "new",
		"initial-cluster-token":       l.state.Prefix,
		"client-transport-security":   security,
		"peer-transport-security":     security,
		"log-level":                   "warn",
	})
	if err != nil {
		return fmt.Errorf("write the configuration of %s: %w", member, err)
	}
	return writeFile(l.etcd(member).config, doc)
}

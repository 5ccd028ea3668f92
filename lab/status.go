package lab

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// HostStatus is one host of a lab, or an etcd member on one. Fields that a host has
// not are empty. The socket of an etcd member is where its clients reach it.
type HostStatus struct {
	Name      string   `json:"name"`
	Netns     string   `json:"netns"`
	Addresses []string `json:"addresses"` // IPv4 prefixes with their device, 127.0.0.0/8 left out
	Pid       int      `json:"pid,omitempty"`
	Socket    string   `json:"socket,omitempty"`
	Config    string   `json:"config,omitempty"`
	Tables    string   `json:"tables,omitempty"`
	Log       string   `json:"log,omitempty"`
}

// Status of every host and, behind them, of every etcd member. A host whose namespace is gone is an error.
func (l *Lab) Status() ([]HostStatus, error) {
	var list []HostStatus
	programs := l.Programs()
	for _, host := range l.Hosts() {
		s := HostStatus{Name: host, Netns: l.Netns(host)}
		var err error
		if s.Addresses, err = l.addresses(host); err != nil {
			return nil, err
		}
		if slices.Contains(programs, host) {
			if s.Pid, err = l.Pid(host); err != nil {
				return nil, err
			}
			s.Socket, s.Config, s.Log = l.Socket(host), l.Config(host), l.LogFile(host)
		}
		if l.hasAgent(host) && !l.HasControl() {
			s.Tables = l.Tables(host)
		}
		list = append(list, s)
	}
	members, err := l.etcdStatus()
	return append(list, members...), err
}

// etcdStatus has an entry for each etcd member, which are on hosts of controllers.
func (l *Lab) etcdStatus() ([]HostStatus, error) {
	var list []HostStatus
	for _, member := range l.EtcdMembers() {
		host, d := etcdHost(member), l.etcd(member)
		s := HostStatus{Name: member, Netns: l.Netns(host), Socket: etcdURL(member, etcdClientPort), Config: d.config, Log: d.logFile}
		var err error
		if s.Addresses, err = l.addresses(host); err != nil {
			return nil, err
		}
		if s.Pid, err = d.pid(); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func (l *Lab) addresses(host string) ([]string, error) {
	list := []string{}
	err := l.Do(host, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list the links of %s: %w", host, err)
		}
		for _, link := range links {
			addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
			if err != nil {
				return fmt.Errorf("list the addresses of %s: %w", host, err)
			}
			for _, a := range addrs {
				if a.IP.IsLoopback() {
					continue
				}
				list = append(list, a.IPNet.String()+" "+link.Attrs().Name)
			}
		}
		return nil
	})
	return list, err
}

// Address of a host: a pod's, else that of its first link. It is invalid for a
// host that has none.
func (l *Lab) Address(host string) netip.Addr {
	if p, ok := l.pod(host); ok {
		return p.Address
	}
	if n, ok := l.joinedNode(host); ok {
		return n.Address
	}
	a, _ := fixedAddress(host)
	return a
}

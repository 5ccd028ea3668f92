package lab

import (
	"embed"
	"fmt"
	"net/netip"
	"path"
	"strings"
)

// dnsFiles are the files that DNS servers and redirects are made of. The Corefile
// of kube-dns and the redirect are the original document's, that of the cache is
// NodeLocalDNS' with its variables.
//
//go:embed dnsfiles
var dnsFiles embed.FS

const servicesFile = "services.yaml"

func dnsFile(name string) (string, error) {
	data, err := dnsFiles.ReadFile(path.Join("dnsfiles", name))
	if err != nil {
		return "", fmt.Errorf("read a file of the lab: %w", err)
	}
	return string(data), nil
}

// putDNSFile writes a file of a host, with each name in variables replaced by what
// follows it there.
func (l *Lab) putDNSFile(host, as, name string, variables ...string) error {
	text, err := dnsFile(name)
	if err != nil {
		return err
	}
	return writeFile(l.hostFile(host, as), []byte(strings.NewReplacer(variables...).Replace(text)))
}

// LargeName has a TXT record whose answer, with EDNS, is as large as is asked for
// by most: 4096 bytes, which on a wire of 1500 are fragments.
const (
	LargeName   = "large.example."
	largeAnswer = 4096
)

func (l *Lab) writeAuthority() error {
	zone := l.hostFile(authorityServer, "world.zone")
	err := l.putDNSFile(authorityServer, "Corefile", "ext.Corefile", "__ZONE__", zone)
	if err != nil {
		return err
	}
	return l.putDNSFile(authorityServer, "world.zone", "world.zone", "__LARGE__", largeText())
}

// largeText is the strings of a TXT record that fill an answer with one question
// for LargeName: 12 bytes of header, 15 + 4 of question, 2 + 10 in front of the
// strings (RFC 1035 4.1), 11 of OPT (RFC 6891 6.1.2), one before each string.
func largeText() string {
	left := largeAnswer - 12 - 15 - 4 - 12 - 11
	var strs []string
	for left > 0 {
		n := min(left, 256)
		strs = append(strs, `"`+strings.Repeat("x", n-1)+`"`)
		left -= n
	}
	return strings.Join(strs, " ")
}

func (l *Lab) writeKubeDNS() error {
	if err := l.putDNSFile(kubeDNSPod, "Corefile", "kube-dns.Corefile"); err != nil {
		return err
	}
	return l.putDNSFile(kubeDNSPod, servicesFile, servicesFile)
}

// writeCache fills the variables of NodeLocalDNS' Corefile as its node-cache does
// at start: of upstream servers none is configured, so that they are those of
// /etc/resolv.conf.
func (l *Lab) writeCache(host, listen string, clusterDNS netip.Addr) error {
	return l.putDNSFile(host, "Corefile", "node-local-dns.Corefile",
		"__PILLAR__DNS__DOMAIN__", "cluster.local",
		"__PILLAR__LOCAL__DNS__", listen,
		"__PILLAR__CLUSTER__DNS__", clusterDNS.String(),
		"__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf",
	)
}

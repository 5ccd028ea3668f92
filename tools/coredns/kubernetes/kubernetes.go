// Package kubernetes is a CoreDNS plugin of that name that answers from a file of
// Service objects, where CoreDNS' own asks an API server. It takes the same block
// in the Corefile and answers by the same rules, the Kubernetes DNS specification
// 1.1.0, for services that have a cluster IP:
//
//	SERVICE.NAMESPACE.svc.ZONE             A
//	_PORT._PROTOCOL.SERVICE.NAMESPACE.svc.ZONE  SRV
//	1-2-3-4.NAMESPACE.pod.ZONE             A, with pods insecure
//	4.3.2.1.in-addr.arpa                   PTR, of a cluster IP
//	dns-version.ZONE                       TXT
package kubernetes

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/etcd/msg"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

const (
	pluginName    = "kubernetes"
	schemaVersion = "1.1.0"
	keyPrefix     = "coredns" // of what msg.Path makes of a name
)

// errNoName says that a name does not exist: NXDOMAIN, unless it falls through.
var errNoName = errors.New("no such name")

// Kubernetes answers for its zones.
type Kubernetes struct {
	next     plugin.Handler
	zones    []string
	fall     fall.F
	ttl      uint32 // seconds
	pods     string // disabled or insecure
	upstream *upstream.Upstream

	services []service
	read     time.Time // when services was read
}

// Name implements plugin.Handler.
func (k *Kubernetes) Name() string { return pluginName }

// ServeDNS implements plugin.Handler.
func (k *Kubernetes) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	zone := plugin.Zones(k.zones).Matches(state.QName())
	if zone == "" {
		return plugin.NextOrFailure(pluginName, k.next, ctx, w, r)
	}
	zone = state.QName()[len(state.QName())-len(zone):] // as the query spells it
	state.Zone = zone
	answer, extra, err := k.lookup(ctx, zone, state)
	if errors.Is(err, errNoName) {
		if k.fall.Through(state.Name()) {
			return plugin.NextOrFailure(pluginName, k.next, ctx, w, r)
		}
		return plugin.BackendError(ctx, k, zone, dns.RcodeNameError, state, nil, plugin.Options{})
	}
	if err != nil {
		return dns.RcodeServerFailure, err
	}
	if len(answer) == 0 { // NODATA
		return plugin.BackendError(ctx, k, zone, dns.RcodeSuccess, state, nil, plugin.Options{})
	}
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative, m.Answer, m.Extra = true, answer, extra
	return dns.RcodeSuccess, w.WriteMsg(m)
}

func (k *Kubernetes) lookup(ctx context.Context, zone string, state request.Request) (answer, extra []dns.RR, err error) {
	switch state.QType() {
	case dns.TypeA:
		answer, _, err = plugin.A(ctx, k, zone, state, nil, plugin.Options{})
	case dns.TypeAAAA:
		answer, _, err = plugin.AAAA(ctx, k, zone, state, nil, plugin.Options{})
	case dns.TypeTXT:
		answer, _, err = plugin.TXT(ctx, k, zone, state, nil, plugin.Options{})
	case dns.TypePTR:
		answer, err = plugin.PTR(ctx, k, zone, state, plugin.Options{})
	case dns.TypeSRV:
		answer, extra, err = plugin.SRV(ctx, k, zone, state, plugin.Options{})
	case dns.TypeSOA:
		if state.QName() == zone {
			answer, err = plugin.SOA(ctx, k, zone, state, plugin.Options{})
			break
		}
		fallthrough
	default: // whether the name exists: NODATA or NXDOMAIN
		_, err = k.Records(ctx, state, false)
	}
	return answer, extra, err
}

// Services implements plugin.ServiceBackend.
func (k *Kubernetes) Services(ctx context.Context, state request.Request, exact bool, _ plugin.Options) ([]msg.Service, error) {
	if state.QType() != dns.TypeTXT {
		return k.Records(ctx, state, exact)
	}
	if state.Name() == dnsutil.Join("dns-version", strings.ToLower(state.Zone)) {
		return []msg.Service{{Text: schemaVersion, TTL: 28800, Key: msg.Path(state.QName(), keyPrefix)}}, nil
	}
	_, err := k.Records(ctx, state, exact)
	return nil, err
}

// Records implements plugin.ServiceBackend: everything that there is of a name.
// Nothing and no error is a name that only has others below it.
func (k *Kubernetes) Records(_ context.Context, state request.Request, _ bool) ([]msg.Service, error) {
	base, err := dnsutil.TrimZone(state.Name(), state.Zone)
	if err != nil {
		return nil, errNoName
	}
	labels := dns.SplitDomainName(base)
	if len(labels) == 0 {
		return nil, nil
	}
	kind := labels[len(labels)-1]
	labels = labels[:len(labels)-1]
	switch {
	case dnsutil.IsReverse(state.Zone) != 0:
		return nil, errNoName
	case kind == "svc":
		return k.serviceRecords(labels, state.Zone)
	case kind == "pod" && k.pods != "disabled":
		return k.podRecords(labels, state)
	}
	return nil, errNoName
}

// serviceRecords finds [_PORT, _PROTOCOL,] SERVICE, NAMESPACE.
func (k *Kubernetes) serviceRecords(labels []string, zone string) ([]msg.Service, error) {
	n := len(labels)
	if n == 0 {
		return nil, nil
	}
	var port, protocol string
	switch n {
	case 1, 2:
	case 4:
		port, protocol = strings.TrimPrefix(labels[0], "_"), strings.TrimPrefix(labels[1], "_")
	default:
		return nil, errNoName
	}
	var found []msg.Service
	exists := false
	for _, s := range k.services {
		if s.namespace != labels[n-1] || n > 1 && s.name != labels[n-2] {
			continue
		}
		exists = exists || n < 4
		if n == 1 {
			continue
		}
		for _, p := range s.ports {
			if n == 4 && (p.name != port || p.protocol != protocol) {
				continue
			}
			// The target of an SRV record is the service's own name.
			key := msg.Path(dnsutil.Join(s.name, s.namespace, "svc", zone), keyPrefix)
			found = append(found, msg.Service{Host: s.address.String(), Port: p.port, TTL: k.ttl, Key: key})
		}
	}
	if !exists && len(found) == 0 {
		return nil, errNoName
	}
	return found, nil
}

// podRecords makes an address of 1-2-3-4, NAMESPACE, whether or not there is such
// a pod: that is what insecure means.
func (k *Kubernetes) podRecords(labels []string, state request.Request) ([]msg.Service, error) {
	if len(labels) < 2 {
		return nil, nil
	}
	address, err := netip.ParseAddr(strings.ReplaceAll(labels[0], "-", "."))
	if err != nil || len(labels) > 2 || !k.namespace(labels[1]) {
		return nil, errNoName
	}
	return []msg.Service{{Host: address.String(), TTL: k.ttl, Key: msg.Path(state.Name(), keyPrefix)}}, nil
}

func (k *Kubernetes) namespace(name string) bool {
	for _, s := range k.services {
		if s.namespace == name {
			return true
		}
	}
	return false
}

// Reverse implements plugin.ServiceBackend.
func (k *Kubernetes) Reverse(ctx context.Context, state request.Request, exact bool, _ plugin.Options) ([]msg.Service, error) {
	address := dnsutil.ExtractAddressFromReverse(state.Name())
	if address == "" {
		_, err := k.Records(ctx, state, exact)
		return nil, err
	}
	for _, s := range k.services {
		if s.address.String() == address {
			return []msg.Service{{Host: dnsutil.Join(s.name, s.namespace, "svc", k.domain()), TTL: k.ttl}}, nil
		}
	}
	return nil, errNoName
}

// domain is the cluster's: the first zone that is not for addresses.
func (k *Kubernetes) domain() string {
	for _, z := range k.zones {
		if dnsutil.IsReverse(z) == 0 {
			return z
		}
	}
	return ""
}

// Lookup implements plugin.ServiceBackend.
func (k *Kubernetes) Lookup(ctx context.Context, state request.Request, name string, typ uint16) (*dns.Msg, error) {
	return k.upstream.Lookup(ctx, state, name, typ)
}

// IsNameError implements plugin.ServiceBackend.
func (k *Kubernetes) IsNameError(err error) bool { return errors.Is(err, errNoName) }

// Serial implements plugin.ServiceBackend.
func (k *Kubernetes) Serial(request.Request) uint32 { return uint32(k.read.Unix()) }

// MinTTL implements plugin.ServiceBackend.
func (k *Kubernetes) MinTTL(request.Request) uint32 { return k.ttl }

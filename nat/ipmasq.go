package nat

import (
	"fmt"
	"net/netip"
)

// Profile is a dialect of the ip-masq-agent file. Both read the same keys and
// differ in what they make of them:
//
//	                         cilium                  upstream
//	no file, or an empty one the 11 ranges below     the first 3 of them
//	a file without the list  nothing is listed       the defaults stay
//	host bits set            masked                  refused
//	IPv6 entries             ignored                 refused
//	more than 64 entries     taken                   refused, unless cidrLimit is higher
//	resyncInterval           unknown                 checked; the file is watched anyway
type Profile string

const (
	// ProfileCilium is the agent that is built into Cilium.
	ProfileCilium Profile = "cilium"
	// ProfileUpstream is kubernetes-sigs/ip-masq-agent.
	ProfileUpstream Profile = "upstream"
)

// maxIPMasqCIDRs bounds a file of either dialect.
const maxIPMasqCIDRs = 65536

// IPMasq is what an ip-masq-agent file says.
type IPMasq struct {
	Profile            Profile
	NonMasqueradeCIDRs []IPMasqCIDR
	MasqLinkLocal      bool     // masquerade what goes to 169.254.0.0/16, too
	Notes              []string // what was understood otherwise than written, "line 3: …"
}

// IPMasqCIDR is one entry of nonMasqueradeCIDRs.
type IPMasqCIDR struct {
	Prefix netip.Prefix
	Line   int // of the file, from 1; 0: a default of the profile
}

// reserved are the ranges that RFC 6890 and its kin keep from the public
// Internet: RFC 1918's three first, then 6598, 6890, 5737, 7526, 2544, 5737 twice
// and 1112.
var reserved = []string{
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
	"100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
}

// DefaultIPMasq is what a profile has in force without a file.
func DefaultIPMasq(profile Profile) IPMasq {
	ranges := reserved
	if profile == ProfileUpstream {
		ranges = reserved[:3]
	}
	c := IPMasq{Profile: profile}
	for _, s := range ranges {
		c.NonMasqueradeCIDRs = append(c.NonMasqueradeCIDRs, IPMasqCIDR{Prefix: netip.MustParsePrefix(s)})
	}
	return c
}

// CIDRs are the entries for Inputs, each with the line of path that it is from.
func (c IPMasq) CIDRs(path string) []CIDR {
	out := make([]CIDR, len(c.NonMasqueradeCIDRs))
	for i, e := range c.NonMasqueradeCIDRs {
		out[i] = CIDR{e.Prefix, fmt.Sprintf("%s: line %d", path, e.Line)}
		if e.Line == 0 {
			out[i].From = fmt.Sprintf("%s: default of profile %s", path, c.Profile)
		}
	}
	return out
}

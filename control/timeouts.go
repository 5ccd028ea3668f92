package control

import (
	"fmt"
	"strings"
	"time"

	"ringway/dataplane"
)

// maxFlowTimeout is what the dataplane's deadlines can hold.
const maxFlowTimeout = 7 * 24 * time.Hour

// Timeouts is the key timeouts of agent.yaml.
type Timeouts struct {
	TCPEstablished string `json:"tcpEstablished" doc:"TCP, established. At least 2h4m (RFC 5382 REQ-5)."`
	TCPTransitory  string `json:"tcpTransitory" doc:"TCP, opening, closing, closed or reset. At least 4m (RFC 5382 REQ-5)."`
	UDP            string `json:"udp" doc:"At least 2m (RFC 4787 REQ-5)."`
	ICMP           string `json:"icmp" doc:"Echo. At least 1m (RFC 5508 REQ-2)."`
	DNS            string `json:"dns" doc:"UDP to port 53 that has no answer yet."`
	DNSAnswered    string `json:"dnsAnswered" doc:"UDP to port 53 after the answer."`
	Other          string `json:"other" doc:"SCTP and protocols without ports."`
}

func timeouts(t dataplane.FlowTimeouts) Timeouts {
	return Timeouts{
		TCPEstablished: shortDuration(t.TCPEstablished),
		TCPTransitory:  shortDuration(t.TCPTransitory),
		UDP:            shortDuration(t.UDP),
		ICMP:           shortDuration(t.ICMP),
		DNS:            shortDuration(t.DNS),
		DNSAnswered:    shortDuration(t.DNSAnswered),
		Other:          shortDuration(t.Other),
	}
}

// flows is t in the dataplane's form; check has passed it.
func (t Timeouts) flows() dataplane.FlowTimeouts {
	parse := func(s string) time.Duration { d, _ := time.ParseDuration(s); return d }
	return dataplane.FlowTimeouts{
		TCPEstablished: parse(t.TCPEstablished),
		TCPTransitory:  parse(t.TCPTransitory),
		UDP:            parse(t.UDP),
		ICMP:           parse(t.ICMP),
		DNS:            parse(t.DNS),
		DNSAnswered:    parse(t.DNSAnswered),
		Other:          parse(t.Other),
	}
}

// check holds the RFCs' floors unless short timeouts are allowed. DNS has none:
// a well-known port may have its own timeout (RFC 4787 REQ-5 a).
func (t Timeouts) check(ps *Problems, short bool) {
	for _, f := range []struct {
		key, value string
		floor      time.Duration
		demand     string
	}{
		{"tcpEstablished", t.TCPEstablished, 2*time.Hour + 4*time.Minute, "RFC 5382 REQ-5"},
		{"tcpTransitory", t.TCPTransitory, 4 * time.Minute, "RFC 5382 REQ-5"},
		{"udp", t.UDP, 2 * time.Minute, "RFC 4787 REQ-5"},
		{"icmp", t.ICMP, time.Minute, "RFC 5508 REQ-2"},
		{"dns", t.DNS, 0, ""},
		{"dnsAnswered", t.DNSAnswered, 0, ""},
		{"other", t.Other, 0, ""},
	} {
		d, err := time.ParseDuration(f.value)
		field := "timeouts." + f.key
		switch {
		case err != nil || d < time.Millisecond || d > maxFlowTimeout:
			ps.add(field, fmt.Sprintf("%q is not a duration from 1ms to %s", clip(f.value), shortDuration(maxFlowTimeout)), "write it as in 2m")
		case d < f.floor && !short:
			ps.add(field, fmt.Sprintf("%s is below the %s that %s demands", f.value, shortDuration(f.floor), f.demand), "raise it, or write allowShortTimeouts: true")
		}
	}
}

// shortDuration leaves out what is zero: 2h4m, not 2h4m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

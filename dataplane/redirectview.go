package dataplane

import (
	"net/netip"
	"time"

	"ringway/nat"
)

// ServiceStatus is one service of the table set in force.
type ServiceStatus struct {
	Namespace string
	Name      string
	Address   netip.Addr
	Ports     []nat.ServicePort
	Backends  []netip.Addr
	Redirect  string // namespace/name of the redirect that takes its traffic; empty: none does
	Flows     uint64 // that it gave a backend, since it is there
	From      string // where it comes from, as in "tables: services[0]"
}

// RedirectStatus is one redirect, of the table set or of the redirects file, and
// what came of it. What is counted is counted since the redirect is there.
type RedirectStatus struct {
	Namespace string
	Name      string
	Service   string             // namespace/name of the service that is the frontend; empty: it is an address
	Frontends []RedirectFrontend // as they are in force; of an unknown service there are none
	Backends  []RedirectBackend
	State     string // "active", or why it has no effect
	From      string // where it comes from: "tables: …", "FILE: line N"
	Flows     uint64 // that went to a backend by conntrack: TCP, and UDP that is no DNS
	Queries   QueryCounts
	InFlight  int // queries that wait for an answer, now
	Pods      []RedirectPod
}

// RedirectActive is the State of a redirect that has an effect.
const RedirectActive = "active"

// RedirectFrontend is one address, port and protocol that is redirected.
type RedirectFrontend struct {
	Address     netip.AddrPort
	Protocol    uint8
	BackendPort uint16
}

// Health of a backend.
const (
	BackendHealthy     = "healthy"
	BackendQuarantined = "quarantined" // it did not answer; nothing goes there until probes are answered
	BackendGone        = "gone"        // it was one while queries to it are in flight
)

// RedirectBackend is one local backend.
type RedirectBackend struct {
	Name    string // of the endpoint; "node": an address of the node
	Address netip.Addr
	Health  string
	Queries uint64 // sent to it
	Answers uint64 // that it gave in time
}

// QueryCounts counts DNS queries over UDP.
type QueryCounts struct {
	Queries        uint64 // of pods
	Answers        uint64 // first ones: CacheAnswers and ServiceAnswers together
	Resends        uint64 // that went to the original service after a backend did not answer
	CacheAnswers   uint64 // by local backends
	ServiceAnswers uint64 // by the original service
	Late           uint64 // answers to queries that were forgotten, dropped
	Duplicates     uint64 // further answers to one query, dropped
	QuotaDrops     uint64 // queries dropped because their pod had its share in flight
}

// RedirectPod is the queries of one local pod to one redirect.
type RedirectPod struct {
	Endpoint string
	Queries  QueryCounts
	InFlight int
	Rcodes   map[string]uint64                  // answers by response code: "NOERROR", "NXDOMAIN", … or the number (RFC 6895 2.3)
	Latency  [len(DNSLatencyBuckets) + 1]uint64 // answers, by how long they took; the last is all above
	Recent   []SampledQuery                     // oldest first
}

// DNSLatencyBuckets are the upper bounds of RedirectPod.Latency.
var DNSLatencyBuckets = [...]time.Duration{
	100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second,
}

// SampledQuery is one of the queries that was looked into: not every one is.
type SampledQuery struct {
	Name string // as in "kube-dns.kube-system.svc.cluster.local."
	Type string // "A", "AAAA", … or the number
	Time time.Time
}

package dataplane

import (
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"ringway/dataplane/dnsquery"
)

// namesKept is how many of the last sampled names of each pod and redirect are kept.
const namesKept = 16

// queryNames keeps what sampled queries asked for.
type queryNames struct {
	mu   sync.Mutex
	last map[queryKey][]SampledQuery
}

// add reads the question of a sample. A query may be longer than its sample, and of
// any shape: what cannot be read is left out.
func (q *queryNames) add(s *dnsquery.Sample) {
	name, off, err := dns.UnpackDomainName(s.Payload(), dnsquery.HeaderLen)
	if err != nil || off+2 > len(s.Payload()) {
		return
	}
	b := s.Payload()[off:]
	one := SampledQuery{
		Name: name, Type: dns.Type(uint16(b[0])<<8 | uint16(b[1])).String(),
		Time: time.Now().Add(-time.Duration(monotonic() - s.At)),
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.last == nil {
		q.last = map[queryKey][]SampledQuery{}
	}
	k := queryKey{s.Redirect, s.Slot}
	list := append(q.last[k], one)
	q.last[k] = list[max(len(list)-namesKept, 0):]
}

// recent are the last ones, the oldest first.
func (q *queryNames) recent(k queryKey) []SampledQuery {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.last[k])
}

// forget those of redirects that are gone, or of a pod.
func (q *queryNames) forget(gone func(queryKey) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k := range q.last {
		if gone(k) {
			delete(q.last, k)
		}
	}
}

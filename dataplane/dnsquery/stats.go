package dnsquery

import "time"

// Bounds are the upper bounds of the buckets of [Stats].Latency, each included; the
// last bucket has none.
var Bounds = [...]time.Duration{
	100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second,
}

// Stats count the queries of one endpoint by one redirect.
type Stats struct {
	Queries         uint64 // new ones that the table took
	Retransmissions uint64 // queries that were in flight already
	OverQuota       uint64 // refused: the endpoint had too many in flight
	Full            uint64 // refused: all endpoints together had

	CacheAnswers    uint64 // first answers, that came from the backend
	UpstreamAnswers uint64 // first answers, that came from upstream
	Late            uint64 // answers to what the other server had answered, or to what was given up
	Duplicates      uint64 // second answers of one server

	Refused    uint64 // queries about which an ICMP error came from the backend
	Resends    uint64 // queries that were sent upstream
	Unanswered uint64 // queries that were given up

	RCodes     [16]uint64              // first answers by response code
	Latency    [len(Bounds) + 1]uint64 // first answers by the time since the query came first
	LatencySum uint64                  // of these times, nanoseconds
}

// Add adds another's counts.
func (s *Stats) Add(o *Stats) {
	s.Queries += o.Queries
	s.Retransmissions += o.Retransmissions
	s.OverQuota += o.OverQuota
	s.Full += o.Full
	s.CacheAnswers += o.CacheAnswers
	s.UpstreamAnswers += o.UpstreamAnswers
	s.Late += o.Late
	s.Duplicates += o.Duplicates
	s.Refused += o.Refused
	s.Resends += o.Resends
	s.Unanswered += o.Unanswered
	for i, n := range o.RCodes {
		s.RCodes[i] += n
	}
	for i, n := range o.Latency {
		s.Latency[i] += n
	}
	s.LatencySum += o.LatencySum
}

// answered counts a first answer that came after so many nanoseconds.
func (s *Stats) answered(r AnswerResult, rcode uint8, after int64) {
	if r == ByBackend {
		s.CacheAnswers++
	} else {
		s.UpstreamAnswers++
	}
	s.RCodes[rcode&0xf]++
	i := 0
	for i < len(Bounds) && after > int64(Bounds[i]) {
		i++
	}
	s.Latency[i]++
	s.LatencySum += uint64(max(after, 0))
}

// of gives the counts of a redirect and an endpoint. What is out of range has a place
// of its own, so that no caller's mistake can harm the path.
func (t *Table) of(redirect uint16, slot uint32) *Stats {
	r := min(int(redirect), t.options.Redirects)
	return &t.stats[t.slot(slot)*(t.options.Redirects+1)+r]
}

// Stats gives the counts that are not all 0 to f, which may copy them. It begins with
// place from and looks at no more than n places; next is where to go on, and 0 when
// that was all. A slot that is out of range is given as [NoSlot], a redirect as the
// first index that is.
func (t *Table) Stats(from, n int, f func(redirect uint16, slot uint32, s *Stats)) (next int) {
	to := min(from+n, len(t.stats))
	for i := max(from, 0); i < to; i++ {
		if t.stats[i] == (Stats{}) {
			continue
		}
		slot := uint32(i / (t.options.Redirects + 1))
		if int(slot) == t.options.Endpoints {
			slot = NoSlot
		}
		f(uint16(i%(t.options.Redirects+1)), slot, &t.stats[i])
	}
	if to == len(t.stats) {
		return 0
	}
	return to
}

// ForgetRedirect sets the counts of a redirect to 0, before its index is given to
// another one. Its queries in flight go on, and count for the other one.
func (t *Table) ForgetRedirect(redirect uint16) {
	for i := min(int(redirect), t.options.Redirects); i < len(t.stats); i += t.options.Redirects + 1 {
		t.stats[i] = Stats{}
	}
}

// Unsolicited is how many answers were Unknown.
func (t *Table) Unsolicited() uint64 { return t.other }

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// queryPatience is how long a query may take: a stub resolver waits five seconds
// before it asks again (resolv.conf(5)), and no one likes to wait so long.
const queryPatience = 2 * time.Second

// QueryLoad says what a host asks, and how often.
type QueryLoad struct {
	Host      string
	Server    netip.AddrPort
	Questions []Question // which take turns
	PerSecond int
	Sockets   int // that take turns
}

// Queries are queries over UDP that are sent at a steady rate until Stop. Nothing
// is sent twice.
type Queries struct {
	load     QueryLoad
	messages [][]byte // with no id yet
	sockets  []*querySocket
	stop     chan struct{}
	sender   sync.WaitGroup
	readers  sync.WaitGroup
	start    time.Time
	took     time.Duration
	err      error // of the sender
	open     atomic.Int64
	most     int // that was ever open; of the sender
}

// Query is what became of one query.
type Query struct {
	Sent    time.Time
	Elapsed time.Duration // 0: it was not answered
	Rcode   uint8
}

// querySocket is a socket with its queries.
type querySocket struct {
	conn *net.UDPConn
	next uint16 // transaction id; of the sender

	mu         sync.Mutex
	queries    []Query
	pending    map[uint16]int // query by transaction id
	duplicates int
	foreign    int // from another address or port than was asked
}

// QueryResult says what became of all queries.
type QueryResult struct {
	Queries    []Query // in the order in which they were sent
	Lost       int     // without an answer, or with one after queryPatience
	Duplicates int
	Foreign    int // answers from another address or port than was asked
	PerSecond  int // that were sent
}

// StartQueries begins to ask.
func (l *Lab) StartQueries(load QueryLoad) (*Queries, error) {
	q := &Queries{load: load, stop: make(chan struct{})}
	for _, question := range load.Questions {
		data, err := question.message(0).Pack()
		if err != nil {
			return nil, fmt.Errorf("ask for %s: %w", question, err)
		}
		q.messages = append(q.messages, data)
	}
	for range max(1, load.Sockets) {
		conn, err := l.listenUDP(load.Host, netip.IPv4Unspecified())
		if err != nil {
			return nil, errors.Join(err, q.close())
		}
		s := &querySocket{conn: conn, next: uint16(rand.Uint32()), pending: map[uint16]int{}}
		q.sockets = append(q.sockets, s)
		q.readers.Go(func() { s.receive(q) })
	}
	q.start = time.Now()
	q.sender.Go(q.send)
	return q, nil
}

func (q *Queries) close() error {
	var errs []error
	for _, s := range q.sockets {
		errs = append(errs, s.conn.Close())
	}
	q.readers.Wait()
	return errors.Join(errs...)
}

// InFlight is how many queries wait for an answer now.
func (q *Queries) InFlight() int { return int(q.open.Load()) }

// MostInFlight is how many queries ever waited at once. Call it after Stop.
func (q *Queries) MostInFlight() int { return q.most }

// send keeps to the rate: what a busy machine delays is made up for, a few at a
// time.
func (q *Queries) send() {
	const burst = 32
	defer func() { q.took = time.Since(q.start) }()
	for sent := 0; ; {
		due := int(time.Since(q.start).Seconds() * float64(q.load.PerSecond))
		for range min(due-sent, burst) {
			s := q.sockets[sent%len(q.sockets)]
			if err := s.ask(q, q.messages[sent%len(q.messages)]); err != nil {
				q.err = err
				return
			}
			sent++
		}
		select {
		case <-q.stop:
			return
		default:
		}
		if due-sent < burst {
			time.Sleep(500 * time.Microsecond)
		}
	}
}

func (s *querySocket) ask(q *Queries, message []byte) error {
	s.next++
	binary.BigEndian.PutUint16(message, s.next)
	s.mu.Lock()
	n := len(s.queries)
	s.pending[s.next] = n
	s.queries = append(s.queries, Query{Sent: time.Now()})
	s.mu.Unlock()
	q.most = max(q.most, int(q.open.Add(1)))
	if _, err := s.conn.WriteToUDPAddrPort(message, q.load.Server); err != nil {
		return fmt.Errorf("query %d: %w", n, err)
	}
	return nil
}

func (s *querySocket) receive(q *Queries) {
	buf := make([]byte, 65536)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // the socket is closed
		}
		now := time.Now()
		if n >= 12 && s.answered(buf[:n], from == q.load.Server, now) {
			q.open.Add(-1)
		}
	}
}

// answered is false for what is no first answer to a query.
func (s *querySocket) answered(message []byte, fromServer bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !fromServer {
		s.foreign++
		return false
	}
	id := binary.BigEndian.Uint16(message)
	i, ok := s.pending[id]
	if !ok {
		s.duplicates++
		return false
	}
	delete(s.pending, id)
	s.queries[i].Elapsed = now.Sub(s.queries[i].Sent)
	s.queries[i].Rcode = message[3] & 0xf
	return true
}

// Stop ends the asking and counts, when all is answered that will be.
func (q *Queries) Stop() (QueryResult, error) {
	close(q.stop)
	q.sender.Wait()
	for deadline := time.Now().Add(queryPatience); q.InFlight() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(flowEcho) // for duplicates
	err := errors.Join(q.err, q.close())
	return q.result(), err
}

func (q *Queries) result() QueryResult {
	var r QueryResult
	for _, s := range q.sockets {
		r.Queries = append(r.Queries, s.queries...)
		r.Duplicates += s.duplicates
		r.Foreign += s.foreign
	}
	slices.SortFunc(r.Queries, func(a, b Query) int { return a.Sent.Compare(b.Sent) })
	for _, query := range r.Queries {
		if query.Elapsed == 0 || query.Elapsed > queryPatience {
			r.Lost++
		}
	}
	r.PerSecond = int(float64(len(r.Queries)) / q.took.Seconds())
	return r
}

// Latency is what a share of the answered queries took at most: 0.5 is the median.
func (r QueryResult) Latency(share float64) time.Duration {
	var all []time.Duration
	for _, q := range r.Queries {
		if q.Elapsed > 0 {
			all = append(all, q.Elapsed)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, int(share*float64(len(all))))]
}

// Rcodes counts answers by response code.
func (r QueryResult) Rcodes() map[uint8]int {
	counts := map[uint8]int{}
	for _, q := range r.Queries {
		if q.Elapsed > 0 {
			counts[q.Rcode]++
		}
	}
	return counts
}

func (r QueryResult) String() string {
	us := func(share float64) time.Duration { return r.Latency(share).Round(time.Microsecond) }
	return fmt.Sprintf("%d queries, %d a second: %d lost, %d duplicates, %d from elsewhere; took %s (median), %s (99 %%), %s at most",
		len(r.Queries), r.PerSecond, r.Lost, r.Duplicates, r.Foreign, us(0.5), us(0.99), us(1))
}

package pki

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ringway/internal/filewatch"
)

// lookAgain is how often files are looked at though nothing was seen to change:
// a certificate that was early has become valid, a network file system tells of
// no changes.
const lookAgain = time.Minute

// errNoCertificate is what handshakes fail with that come before the files were
// ever of use.
var errNoCertificate = errors.New("there has been no usable certificate yet: see the log")

// Options of Open.
type Options struct {
	Log *slog.Logger
	// HostNames is for peers that are known by host name, as etcd's members are,
	// instead of by an identity.
	HostNames bool
	// Now is the clock by which certificates are valid; nil: time.Now.
	Now func() time.Time
}

// Source is Files followed as they change: new connections use what is there,
// without a restart. Files that do not fit together, as while they are being
// written, that have expired or are not valid yet, change nothing: what was good
// last is used further on.
type Source struct {
	files     Files
	log       *slog.Logger
	hostNames bool
	now       func() time.Time
	stop      context.CancelFunc
	group     sync.WaitGroup

	current atomic.Pointer[keySet] // nil: nothing was good yet

	mu      sync.Mutex // held while files are read; guards:
	problem error      // why what the files hold is not in force
}

// Open reads files and follows them until Close. Their directories must exist.
// Files that are of no use are no error of Open, so that a node starts with what
// it has: Err tells, and handshakes fail until there are better ones.
func Open(files Files, o Options) (*Source, error) {
	ctx, stop := context.WithCancel(context.Background())
	s := &Source{files: files, log: o.Log, hostNames: o.HostNames, now: o.Now, stop: stop}
	if s.now == nil {
		s.now = time.Now
	}
	w, err := filewatch.NewAll([]string{files.CA, files.Cert, files.Key}, o.Log)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.group.Go(func() { w.Run(ctx, s.look) })
	s.group.Go(func() { s.lookNowAndThen(ctx) })
	s.look()
	return s, nil
}

// Close stops following the files. What uses the Source keeps what it has.
func (s *Source) Close() error {
	s.stop()
	s.group.Wait()
	return nil
}

func (s *Source) lookNowAndThen(ctx context.Context) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look()
		}
	}
}

// look puts what the files hold in force, if it is good.
func (s *Source) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := load(s.files, s.hostNames, s.now())
	if err != nil {
		s.refused(err)
		return
	}
	s.problem = nil
	if before := s.current.Swap(next); before != nil && before.equal(next) {
		return
	}
	leaf := next.pair.Leaf
	s.log.Info("a certificate is in force", "file", s.files.Cert, "subject", leaf.Subject.CommonName,
		"serial", serial(leaf), "notAfter", leaf.NotAfter, "cas", len(next.authorities))
}

// refused logs each problem once.
func (s *Source) refused(err error) {
	if s.problem == nil || s.problem.Error() != err.Error() {
		s.log.Warn("certificate files are not put in force", "err", err, "kept", s.current.Load() != nil)
	}
	s.problem = err
}

// Err is why what the files hold is not in force, or why what is in force is of
// no use any more; nil: all is well.
func (s *Source) Err() error {
	s.mu.Lock()
	problem := s.problem
	s.mu.Unlock()
	if problem != nil {
		return problem
	}
	if k := s.current.Load(); k != nil {
		if err := checkValidity(k.pair.Leaf, s.now()); err != nil {
			return fmt.Errorf("the certificate in force %w", err)
		}
	}
	return nil
}

// Expiry is when the certificate in force ends; zero: there is none.
func (s *Source) Expiry() time.Time {
	if k := s.current.Load(); k != nil {
		return k.pair.Leaf.NotAfter
	}
	return time.Time{}
}

// Identity is that of the certificate in force; false: there is none.
func (s *Source) Identity() (Identity, bool) {
	k := s.current.Load()
	if k == nil || s.hostNames {
		return Identity{}, false
	}
	return k.id, true
}

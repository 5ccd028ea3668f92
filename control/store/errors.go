package store

import (
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

var (
	// ErrUnknown: etcd stopped answering while a transaction was on its way, and
	// whether it was committed, or still will be, cannot be known now. Read the
	// state again, when there is one, before deciding anything.
	ErrUnknown = errors.New("it is not known whether the change was made; look at the state before trying again")
	// ErrUnavailable: nothing was changed, since etcd does not answer.
	ErrUnavailable = errors.New("etcd does not answer")
	// ErrTooLarge: nothing was changed, since etcd takes no transaction as large.
	ErrTooLarge = errors.New("the change is larger than one etcd transaction can be")
	// ErrNoSpace: nothing was changed, since etcd's database is at its quota.
	ErrNoSpace = errors.New("etcd's database is full (alarm NOSPACE)")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrWentBack: etcd holds an older state, or another cluster's, than this
	// controller has seen.
	ErrWentBack = errors.New("etcd went back to an older state, or is another one")
	// ErrLocked: another process uses the data directory.
	ErrLocked = errors.New("another process uses this data directory")
)

// refusals are etcd's answers that say that a transaction was not, and will not be,
// committed. After any other error it may have been.
var refusals = []error{
	rpctypes.ErrNoSpace, rpctypes.ErrTooManyOps, rpctypes.ErrRequestTooLarge, rpctypes.ErrDuplicateKey,
	rpctypes.ErrEmptyKey, rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed,
	rpctypes.ErrInvalidAuthToken, rpctypes.ErrCorrupt,
}

func isRefusal(err error) bool {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// explain adds to an error of etcd what can be done about it.
func (s *Store) explain(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %s", ErrNoSpace, s.noSpaceRemedy())
	case errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: %w; start etcd with --max-txn-ops of at least %d, or set the controller's limit to etcd's", ErrTooLarge, err, s.options.MaxOps)
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: %w; apply fewer objects at once", ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty):
		return fmt.Errorf("etcd refuses this controller: %w; grant its user readwrite on prefix %s", err, prefix)
	}
	return err
}

// where names the etcd that is used.
func (s *Store) where() string {
	if s.options.Embedded != nil {
		return "the embedded etcd in " + s.options.Embedded.DataDir
	}
	return "etcd at " + strings.Join(s.options.Endpoints, ", ")
}

// unavailable is ErrUnavailable with what to look at.
func (s *Store) unavailable(err error) error {
	remedy := "check that a majority of its members runs, that they can be reached from here, and the certificates"
	if s.options.Embedded != nil {
		remedy = "check the controller's log, and the disk that the directory is on"
	}
	return fmt.Errorf("%s: %w: %w; %s", s.where(), ErrUnavailable, err, remedy)
}

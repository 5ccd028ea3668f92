package natconf

import (
	"errors"
	"fmt"
	"strings"
)

// requirement is a demand on a NAT, and how it is tried.
type requirement struct {
	id     string
	level  string // MUST, SHOULD or MAY, RECOMMENDED being SHOULD; empty beyond the RFCs
	demand string
	probe  func(*scene) error
	// waits: the probe waits for timeouts, on a device where they are short, beside
	// others that wait.
	waits bool
	// limited: the probe meets quotas, on a device that has some.
	limited bool
	option  option // that an operator may choose, where the default does not do

	ringway, nft  verdict // what is expected
	why, nftNotes string  // of a verdict that is not met
}

// name is the id as the name of a subtest.
func (r *requirement) name() string {
	return strings.NewReplacer(", ", "-", " ", "-").Replace(r.id)
}

type verdict string

const (
	met      verdict = "met"
	byOption verdict = "by option"
	notMet   verdict = "not met"
)

// result is what a requirement's probe found.
type result struct {
	verdict verdict
	seen    string // what spoke against met
	err     error  // of the lab: there is no verdict
}

func (r result) String() string {
	if r.seen == "" {
		return string(r.verdict)
	}
	return fmt.Sprintf("%s (%s)", r.verdict, r.seen)
}

// judge tries a requirement on a device: as it comes, and with the option.
func (r *requirement) judge(dev device) result {
	seen := r.try(dev, ordinary)
	if seen == nil {
		return result{verdict: met}
	}
	if isBroken(seen) {
		return result{err: seen}
	}
	err := r.tryOption(dev)
	switch {
	case err == nil:
		return result{verdict: byOption, seen: seen.Error()}
	case isBroken(err):
		return result{err: err}
	}
	if errors.Is(err, errNoOption) {
		return result{verdict: notMet, seen: seen.Error()}
	}
	return result{verdict: notMet, seen: fmt.Sprintf("%v; with %s: %v", seen, r.option, err)}
}

func (r *requirement) try(dev device, in realmName) error {
	if !r.waits {
		if err := dev.forget(); err != nil {
			return &broken{err}
		}
	}
	return r.probe(newScene(dev, in))
}

func (r *requirement) tryOption(dev device) error {
	switch r.option {
	case none:
		return errNoOption
	case ownAddress:
		return r.try(dev, own)
	case random:
		return r.try(dev, shuffled)
	}
	undo, err := dev.choose(r.option)
	if errors.Is(err, errNoOption) {
		return err
	}
	if err != nil {
		return &broken{err}
	}
	found := r.try(dev, ordinary)
	if err := undo(); err != nil {
		return &broken{err}
	}
	return found
}

func isBroken(err error) bool {
	var b *broken
	return errors.As(err, &b)
}

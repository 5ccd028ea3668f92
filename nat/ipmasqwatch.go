package nat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"ringway/internal/filewatch"
)

// IPMasqUpdate is what an ip-masq-agent file has come to: a new Config, or why
// there is none, and then what was in force stays.
type IPMasqUpdate struct {
	Config IPMasq
	Err    error
}

// WatchIPMasq follows an ip-masq-agent file. The channel gives what the file
// says now, as the first update, and then each change of it; it is closed some
// time after ctx has ended. A file that is missing is no error, at the start or
// later: the profile's defaults hold then. A missing directory is, because its
// coming would go unseen. Notes of the file go to log.
func WatchIPMasq(ctx context.Context, path string, profile Profile, log *slog.Logger) (<-chan IPMasqUpdate, error) {
	if _, err := ParseIPMasq(nil, profile); err != nil {
		return nil, err
	}
	w, err := filewatch.New(path, log)
	if err != nil {
		return nil, fmt.Errorf("ip-masq-agent file: %w: make its directory or choose another file", err)
	}
	f := &ipmasqFile{path: path, profile: profile, log: log}
	return follow(ctx, w, f.look), nil
}

type ipmasqFile struct {
	path    string
	profile Profile
	log     *slog.Logger

	looked bool
	last   []byte // content at the last look; nil: it was missing or unreadable
	failed string // why it could not be read
}

// look reads the file. A missing one is one without content: both mean the
// defaults.
func (f *ipmasqFile) look() (u IPMasqUpdate, isNew bool) {
	doc, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		doc, err = nil, nil
	}
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	if f.looked && failed == f.failed && bytes.Equal(doc, f.last) {
		return IPMasqUpdate{}, false
	}
	f.looked, f.last, f.failed = true, doc, failed
	if err != nil {
		return IPMasqUpdate{Err: fmt.Errorf("read the ip-masq-agent file: %w", err)}, true
	}
	c, err := ParseIPMasq(doc, f.profile)
	if err != nil {
		return IPMasqUpdate{Err: fmt.Errorf("%s: %w", f.path, err)}, true
	}
	for _, n := range c.Notes {
		f.log.Warn("ip-masq-agent file", "file", f.path, "note", n)
	}
	return IPMasqUpdate{Config: c}, true
}

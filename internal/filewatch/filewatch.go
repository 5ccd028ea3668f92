// Package filewatch tells when the content of files, or of the files of a
// directory, may have changed, in whatever way that happened: written in place,
// renamed over, removed, or swapped behind a symlink as Kubernetes does with a
// mounted ConfigMap.
package filewatch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Settle is how long a file must be left alone before it is read: an editor
// writes in several steps, and the first of them truncates.
const Settle = 100 * time.Millisecond

// restless is how long a look is put off at the most: the directory may have files
// in it that never come to rest.
const restless = 2 * time.Second

// Watcher watches files, or directories without those below them. Directories are
// watched instead of the files: a watch on a file stays with the inode, which the
// rename of a careful editor and the symlink swap of a Kubernetes volume leave
// behind.
type Watcher struct {
	paths    []string
	log      *slog.Logger
	notifier *fsnotify.Watcher
	targets  map[string]bool // directories that the paths lead to or are, watched as well
}

// New starts to watch path, which need not exist. The directory that it is in
// must: its coming would go unseen. The Watcher is closed by Run.
func New(path string, log *slog.Logger) (*Watcher, error) { return NewAll([]string{path}, log) }

// NewAll starts to watch several paths that are looked at together.
func NewAll(paths []string, log *slog.Logger) (*Watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", strings.Join(paths, ", "), err)
	}
	for _, path := range paths {
		if err := n.Add(filepath.Dir(path)); err != nil {
			n.Close()
			return nil, fmt.Errorf("watch %s: %w", path, err)
		}
	}
	w := &Watcher{paths: paths, log: log, notifier: n}
	w.followLinks()
	return w, nil
}

// Run calls look once the files have been left alone: a first time in any case, and
// then after each change that may concern them, until ctx ends. It is called once,
// and looks happen on its goroutine.
func (w *Watcher) Run(ctx context.Context, look func()) {
	defer w.notifier.Close()
	quiet := time.NewTimer(Settle)
	var since time.Time // the first change that nobody has looked at; zero: there is none
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.notifier.Events:
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) < restless {
				quiet.Reset(Settle)
			}
		case err := <-w.notifier.Errors: // an overflow of the queue: look for ourselves
			w.log.Warn("watch a file", "file", strings.Join(w.paths, ", "), "err", err)
			quiet.Reset(Settle)
		case <-quiet.C:
			since = time.Time{}
			w.followLinks() // before the look, so that no change falls between
			look()
		}
	}
}

// followLinks watches what leadTo finds, and nothing that it found before.
func (w *Watcher) followLinks() {
	targets := w.leadTo()
	for dir := range w.targets {
		if !targets[dir] {
			_ = w.notifier.Remove(dir) // gone with its directory, if it fails
		}
	}
	for dir := range targets {
		// Again, if it is the same: the one that was watched may be gone, and this
		// another of its name.
		if err := w.notifier.Add(dir); err != nil {
			w.log.Warn("changes of the file in place go unseen", "dir", dir, "err", err)
			delete(targets, dir)
		}
	}
	w.targets = targets
}

// leadTo are the directories that the paths lead to or are, without those that
// they are in, which are watched from the beginning.
func (w *Watcher) leadTo() map[string]bool {
	targets := map[string]bool{}
	for _, path := range w.paths {
		target, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue // dangling: the watch on the link's own directory tells of its repair
		}
		if info, err := os.Stat(target); err != nil || !info.IsDir() {
			target = filepath.Dir(target)
		}
		targets[target] = true
	}
	for _, path := range w.paths {
		if own, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			delete(targets, own)
		}
	}
	return targets
}

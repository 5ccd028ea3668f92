// Package filewatch tells when the content of one file, or of the files of one
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
	"time"

	"github.com/fsnotify/fsnotify"
)

// Settle is how long a file must be left alone before it is read: an editor
// writes in several steps, and the first of them truncates.
const Settle = 100 * time.Millisecond

// Watcher watches one file, or one directory without those below it. Directories are watched instead of the file: a watch
// on a file stays with the inode, which the rename of a careful editor and the
// symlink swap of a Kubernetes volume leave behind.
type Watcher struct {
	path     string
	log      *slog.Logger
	notifier *fsnotify.Watcher
	target   string // directory that the path leads to or is, watched as well; "" where it is the path's own
}

// New starts to watch path, which need not exist. The directory that it is in
// must: its coming would go unseen. The Watcher is closed by Run.
func New(path string, log *slog.Logger) (*Watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	if err := n.Add(filepath.Dir(path)); err != nil {
		n.Close()
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	w := &Watcher{path: path, log: log, notifier: n}
	w.followLinks()
	return w, nil
}

// Run calls look once the file has been left alone: a first time in any case, and
// then after each change that may concern it, until ctx ends. It is called once,
// and looks happen on its goroutine.
func (w *Watcher) Run(ctx context.Context, look func()) {
	defer w.notifier.Close()
	quiet := time.NewTimer(Settle)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.notifier.Events:
			quiet.Reset(Settle)
		case err := <-w.notifier.Errors: // an overflow of the queue: look for ourselves
			w.log.Warn("watch a file", "file", w.path, "err", err)
			quiet.Reset(Settle)
		case <-quiet.C:
			w.followLinks() // before the look, so that no change falls between
			look()
		}
	}
}

// followLinks watches the directory of what the path leads to as well, or that
// itself if it is one.
func (w *Watcher) followLinks() {
	target, err := filepath.EvalSymlinks(w.path)
	if err != nil {
		return // dangling: the watch on the link's own directory tells of its repair
	}
	dir := filepath.Dir(target)
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		dir = target
	}
	own, err := filepath.EvalSymlinks(filepath.Dir(w.path))
	if err != nil || dir == own {
		return
	}
	if w.target != "" && w.target != dir {
		_ = w.notifier.Remove(w.target) // gone with its directory, if it fails
		w.target = ""
	}
	// Again, if it is the same: the one that was watched may be gone, and this
	// another of its name.
	if err := w.notifier.Add(dir); err != nil {
		w.log.Warn("changes of the file in place go unseen", "dir", dir, "err", err)
		return
	}
	w.target = dir
}

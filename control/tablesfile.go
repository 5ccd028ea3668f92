package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a tables file must be left alone before it is read: an
// editor writes in several steps, and the first of them truncates.
const settle = 100 * time.Millisecond

// tablesFile applies a file's content whenever it changes. Directories are
// watched instead of the file: a watch on a file stays with the inode, which
// the rename of a careful editor and the symlink swap of a Kubernetes volume
// leave behind.
type tablesFile struct {
	path    string
	applier *applier
	log     *slog.Logger

	watcher *fsnotify.Watcher
	dirs    map[string]bool // that are watched now
	last    []byte          // content that was offered last, applied or refused
	missing string          // why it could not be read, logged already
}

// openTablesFile starts to watch the file and applies it a first time. That the
// file is wrong or missing is no error: what is in force stays so. A missing
// directory is, because its coming would go unseen.
func openTablesFile(path string, a *applier, log *slog.Logger) (*tablesFile, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch tables file %s: %w", path, err)
	}
	if err := w.Add(filepath.Dir(path)); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch tables file %s: %w: make its directory or change the key tables", path, err)
	}
	f := &tablesFile{path: path, applier: a, log: log, watcher: w, dirs: map[string]bool{}}
	f.load()
	return f, nil
}

// run reads the file again after each change until ctx ends, and closes it.
func (f *tablesFile) run(ctx context.Context) {
	defer f.watcher.Close()
	quiet := time.NewTimer(settle)
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.watcher.Events:
			quiet.Reset(settle)
		case err := <-f.watcher.Errors: // an overflow of the queue: look for ourselves
			f.log.Warn("watching the tables file", "file", f.path, "err", err)
			quiet.Reset(settle)
		case <-quiet.C:
			f.load()
		}
	}
}

// load offers the file's content if it is new.
func (f *tablesFile) load() {
	f.followLinks()
	doc, err := os.ReadFile(f.path)
	if err != nil {
		f.unreadable(err)
		return
	}
	f.missing = ""
	if f.last != nil && bytes.Equal(doc, f.last) {
		return
	}
	f.last = doc
	if err := f.applier.file(f.path, doc); err != nil {
		f.log.Error("the tables file is refused, what was in force stays", "file", f.path, "err", err)
		return
	}
	f.log.Info("tables applied", "file", f.path)
}

func (f *tablesFile) unreadable(err error) {
	f.last = nil
	if f.missing == err.Error() {
		return
	}
	f.missing = err.Error()
	f.log.Error("the tables file cannot be read, what was in force stays", "file", f.path, "err", err)
	f.applier.refuse(f.path, fmt.Errorf("read the tables file: %w", err))
}

// followLinks watches the directory of what the path leads to as well.
func (f *tablesFile) followLinks() {
	target, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return // dangling: the watch on the link's own directory tells of its repair
	}
	dir := filepath.Dir(target)
	own, err := filepath.EvalSymlinks(filepath.Dir(f.path))
	if err != nil || dir == own || f.dirs[dir] {
		return
	}
	for old := range f.dirs {
		_ = f.watcher.Remove(old) // gone with its directory, if it fails
		delete(f.dirs, old)
	}
	if err := f.watcher.Add(dir); err != nil {
		f.log.Warn("changes of the tables file in place go unseen", "dir", dir, "err", err)
		return
	}
	f.dirs[dir] = true
}

package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"

	"ringway/internal/filewatch"
)

// tablesFile applies a file's content whenever it changes.
type tablesFile struct {
	path    string
	applier *applier
	log     *slog.Logger

	watcher *filewatch.Watcher
	last    []byte // content that was offered last, applied or refused
	missing string // why it could not be read, logged already
}

// openTablesFile starts to watch the file and applies it a first time. That the
// file is wrong or missing is no error: what is in force stays so. A missing
// directory is, because its coming would go unseen.
func openTablesFile(path string, a *applier, log *slog.Logger) (*tablesFile, error) {
	w, err := filewatch.New(path, log)
	if err != nil {
		return nil, fmt.Errorf("tables file: %w: make its directory or change the key tables", err)
	}
	f := &tablesFile{path: path, applier: a, log: log, watcher: w}
	f.load()
	return f, nil
}

// run reads the file again after each change until ctx ends, and closes it.
func (f *tablesFile) run(ctx context.Context) { f.watcher.Run(ctx, f.load) }

// load offers the file's content if it is new.
func (f *tablesFile) load() {
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

package rpc

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// auditFile is appended to, a line at a time. Each line is with the kernel before
// the caller has its answer, so that it survives the death of this process; to
// wait for the disk would let a slow one stop all changes, so a power failure may
// cost the last half minute. Where the file is renamed or removed, as logrotate
// does, the next line begins a new one.
type auditFile struct {
	path string

	mu      sync.Mutex
	f       *os.File
	torn    bool // the last line is there in part
	problem error
}

func openAuditFile(path string) (*auditFile, error) {
	a := &auditFile{path: path}
	if err := a.open(); err != nil {
		return nil, fmt.Errorf("auditLog: %w: name a file in a directory that exists", err)
	}
	return a, nil
}

func (a *auditFile) open() error {
	f, err := os.OpenFile(a.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if a.f != nil {
		a.f.Close()
	}
	a.f, a.torn = f, false
	return nil
}

// Write appends one line.
func (a *auditFile) Write(line []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, err := a.write(line)
	if a.problem = nil; err != nil {
		a.problem = fmt.Errorf("auditLog: %w: make room, or repair the directory", err)
	}
	return n, err
}

func (a *auditFile) write(line []byte) (int, error) {
	if a.moved() {
		if err := a.open(); err != nil {
			return 0, err
		}
	}
	if a.torn { // by a disk that was full
		if _, err := a.f.Write([]byte("\n")); err != nil {
			return 0, err
		}
		a.torn = false
	}
	n, err := a.f.Write(line)
	a.torn = err != nil && n > 0
	return n, err
}

// moved tells whether path is no longer the file that is open.
func (a *auditFile) moved() bool {
	now, err := os.Stat(a.path)
	if err != nil {
		return true
	}
	open, err := a.f.Stat()
	return err != nil || !os.SameFile(now, open)
}

// Err is why the newest line is not in the file.
func (a *auditFile) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.problem
}

// Close makes further lines errors.
func (a *auditFile) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close the audit log: %w", err)
	}
	return nil
}
